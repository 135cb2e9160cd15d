"""One page of decisions in, a list with a button each out; what is clicked becomes an order."""

from collections.abc import Callable

import streamlit as st

from ids_appliance.dashboard import tables
from ids_appliance.dashboard.feed import ROWS, Reading, View
from ids_appliance.dashboard.words import plain
from ids_appliance.gateway.actions import DecisionInfo

Release = Callable[[DecisionInfo], None]


def view(*, windows: bool = False, events: bool = False) -> View:
    """Return what is looked at, by the fields of this page; windows, events: these as well."""
    find = plain(str(st.session_state.get("find", ""))[:200], 200).strip()
    return View(int(st.session_state.get("offset", 0)), find, windows, events)


def blocked(reading: Reading, release: Release) -> None:
    """Draw who is limited or cut off, and why, for how long; `release` is called from a button."""
    page = reading.page
    st.subheader("Blocked senders")
    st.text_input(
        "Find a sender, a device or a reason",
        key="find",
        max_chars=200,
        on_change=_turn,
        args=(0,),
    )
    parts = [f"{n:,} {name.replace('_', ' ')}" for name, n in sorted(page.by_response.items())]
    noun = "decision stands" if page.total == 1 else "decisions stand"
    st.text(f"{page.total:,} {noun}" + (f": {', '.join(parts)}" if parts else ""))
    if not page.rows:
        st.info("Nobody is blocked." if not page.total else "Nobody here: not found.")
    for decision in page.rows:
        # Three elements a row: a browser draws all of them anew every two seconds.
        with st.container(border=True, horizontal=True, vertical_alignment="center"):
            st.text(_row(decision, page.now_ns), width="stretch")
            st.button(
                "Release",
                key=f"release-{decision.number}",
                on_click=release,
                args=(decision,),
            )
    _pager(reading)


def _row(decision: DecisionInfo, now_ns: int) -> str:
    label = "DRILL · " if decision.drill else ""
    done = f"{tables.what(decision)}, {tables.spans(decision, now_ns)}"
    return f"{label}{tables.who(decision)}\n{done}\n{plain(decision.reason)}"


def _pager(reading: Reading) -> None:
    offset, matching = view().offset, reading.page.matching
    before, here, after = st.columns((1, 3, 1))
    before.button(
        "Newer",
        key="newer",
        disabled=offset <= 0,
        on_click=_turn,
        args=(max(0, offset - ROWS),),
    )
    last = min(offset + ROWS, matching)
    here.text(f"{min(offset + 1, last):,} to {last:,} of {matching:,}")
    after.button(
        "Older",
        key="older",
        disabled=offset + ROWS >= matching,
        on_click=_turn,
        args=(offset + ROWS,),
    )


def _turn(offset: int) -> None:
    st.session_state["offset"] = offset


def target(decision: DecisionInfo) -> str:
    """Return what `release` takes for exactly this decision."""
    mac = decision.subject.count(":") == 5 and "/" not in decision.subject
    return (
        f"{decision.subject}@{decision.interface}"
        if mac and decision.interface
        else (decision.subject)
    )
