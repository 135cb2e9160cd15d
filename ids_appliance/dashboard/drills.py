"""Whoever serves drills in, buttons and reports out."""

from collections.abc import Callable
from pathlib import Path

import pandas
import streamlit as st

from ids_appliance.dashboard.tables import moment
from ids_appliance.dashboard.words import literal, plain
from ids_appliance.drill.messages import Ask, Report, ask_drills
from ids_appliance.errors import DrillError

Start = Callable[[str], None]


def start(run_dir: Path, kind: str, token: str) -> None:
    """Order a drill. Raises DrillError."""
    if not token.strip():
        raise DrillError("a drill needs the token")
    ask_drills(run_dir, Ask(do="start", kind=kind, token=token.strip()[:128]))


def drills(run_dir: Path, order: Start) -> None:
    """Draw a button for each kind of drill, and what came of the latest; `order` is called from a
    button."""
    st.subheader("Drills")
    st.caption(
        "A simulated anomaly from a namespace of its own to another, through the real path. It is "
        "labelled as a drill everywhere and reaches no real device."
    )
    try:
        state = ask_drills(run_dir, Ask(do="state"))
    except DrillError as error:
        st.info(literal(str(error)))
        return
    busy = any(report.running for report in state.reports)
    for name, about in state.kinds.items():
        button, text = st.columns((1, 3), vertical_alignment="center")
        button.button(
            f"Drill: {name.replace('_', ' ')}",
            key=f"drill-{name}",
            disabled=busy,
            on_click=order,
            args=(name,),
        )
        text.text(plain(about))
    for number, report in enumerate(state.reports):
        with st.container(border=True, key=f"report-{number}"):
            _report(report)


def _report(report: Report) -> None:
    began = moment(report.began_ns).strftime("%H:%M:%S UTC")
    st.text(f"DRILL · {plain(report.kind)} at {began}: {plain(report.outcome) or 'under way'}")
    last = "" if report.last_arrival_s is None else f", the last after {report.last_arrival_s:g} s"
    st.text(f"{report.sent:,} frames sent, {report.arrived:,} arrived{last}")
    if report.steps:
        rows = [
            {"after s": step.after_s, "what": plain(step.what), "detail": plain(step.detail)}
            for step in report.steps
        ]
        st.dataframe(pandas.DataFrame(rows), hide_index=True)
