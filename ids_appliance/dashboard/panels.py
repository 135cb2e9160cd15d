"""A reading in, one panel of the page out: each function draws what its name says."""

from typing import Final

import pandas
import streamlit as st

from ids_appliance.dashboard import charts, tables
from ids_appliance.dashboard import queues as queues_of
from ids_appliance.dashboard.card import read_card
from ids_appliance.dashboard.feed import Reading, rate, rates
from ids_appliance.dashboard.tables import Row
from ids_appliance.dashboard.words import ago, literal, plain

ELSEWHERE: Final = "not in this mode"


def header(reading: Reading) -> None:
    """Draw what everybody wants to know first."""
    status = reading.status
    judge = f"on the node {status.node}" if status.node else "here"
    with st.container():  # one element, however many lines it has: what follows stays in place
        if status.enforcing:
            st.success(literal(f"Enforcing. {status.mode}: packets are judged {judge}."))
        else:
            st.warning(literal(f"Not enforcing: {status.held or 'unknown'}"))
        for alarm in status.alarms:
            if alarm != status.held:
                st.error(literal(alarm))
    seen, judged = rate(reading.samples, "delivered"), rate(reading.samples, "judged")
    dropped = rate(reading.samples, *tables.drop_names(status.counters))
    window = "open" if status.window is not None else "closed"
    figures = (
        ("seen /s", _per_s(seen)),
        ("judged /s", _per_s(judged)),
        ("dropped /s", _per_s(dropped)),
        ("decisions", f"{status.decisions:,}"),
        ("window", window),
    )
    for column, (label, value) in zip(st.columns(len(figures)), figures, strict=True):
        column.metric(label, value)


def traffic(reading: Reading) -> None:
    """Draw the live traffic by protocol, and what became of it."""
    st.subheader("Traffic by protocol")
    rows = rates(reading.samples, tables.TRAFFIC)
    if not rows:
        st.info("One moment: rates need two readings.")
        return
    st.vega_lite_chart(*charts.over_time(rows, title="packets /s"))
    st.caption(
        "As captured. While no window is open the kernel hands over what the rules need only: "
        "UDP is not among it then, unless socket_filter is off."
    )
    st.subheader("Judged and dropped")
    fates = rates(reading.samples, tables.FATES)
    names = dict.fromkeys(tables.drop_names(reading.status.counters), "dropped by the kernel")
    fates += rates(reading.samples, names)
    st.vega_lite_chart(*charts.over_time(fates, title="packets /s"))


def windows(reading: Reading) -> None:
    """Draw the latest scrutiny windows as a timeline, and their accounts."""
    st.subheader("Scrutiny windows")
    rows = tables.window_rows(reading.windows, reading.page.now_ns)
    if not rows:
        st.info("No window has been open since the start.")
        return
    st.vega_lite_chart(*charts.timeline(rows))
    _table(rows)


def queues(reading: Reading) -> None:
    """Draw delays and queues, where the mode has them."""
    counters = reading.status.counters
    st.subheader("Delay per packet")
    rows = queues_of.delay_rows(reading.samples)
    if rows:
        found = queues_of.percentiles(rows)
        for column, (label, value) in zip(st.columns(len(found) or 1), found, strict=False):
            column.metric(label, value)
        st.vega_lite_chart(*charts.buckets(rows))
        st.caption("From the kernel's time stamp to the verdict, of the last five minutes.")
    else:
        st.info(f"Delay per packet: {ELSEWHERE}.")
    for title, table in (
        ("Inline queue", queues_of.inline_rows(counters)),
        ("Outgoing queues", queues_of.class_rows(counters)),
    ):
        st.subheader(title)
        if table:
            _table(table)
        else:
            st.info(f"{title}: {ELSEWHERE}.")
    waiting = ("in_ring", "under_way", "log_waiting", "attempts_pending")
    st.subheader("Waiting in the gateway")
    _table([{"what": name, "packets": counters[name]} for name in waiting if name in counters])


def votes(reading: Reading) -> None:
    """Draw what the model, or each of several, has said."""
    st.subheader("Verdicts by window")
    rows = tables.vote_rows([w for w in reading.windows if w.judged])
    if rows:
        st.vega_lite_chart(*charts.stacked(rows, bar="number", part="verdict", size="packets"))
    else:
        st.info("No packet has been judged yet: no window was open.")
    st.subheader("Votes by model")
    members = tables.model_votes(reading.status.counters)
    if members:
        _table(members)
    else:
        st.info(f"Votes by model: {ELSEWHERE}, one model judges.")


def health(reading: Reading) -> None:
    """Draw how the gateway is: interfaces, node, losses."""
    status = reading.status
    st.subheader("Gateway")
    facts = {
        "version": status.version,
        "running for": ago(status.uptime_s),
        "mode": status.mode,
        "profile": status.profile,
        "node": status.node or "none: packets are judged here",
        "model": status.model,
        "in the kernel": f"{status.found:,} of {status.intended:,} elements",
        "windows since the start": f"{status.windows:,}",
        "answered this page within": f"{1000 * reading.took_s:.0f} ms",
    }
    _table([{"what": name, "value": plain(value)} for name, value in facts.items()])
    st.subheader("Interfaces")
    _table(
        [
            {
                "interface": plain(port.name),
                "link": "up" if port.up else "down",
                "frames": port.frames,
                "lost": port.drops,
            }
            for port in status.interfaces
        ]
    )
    st.subheader("Losses since the start")
    _table(tables.loss_rows(status.counters))


def events(reading: Reading) -> None:
    """Draw the latest events."""
    st.subheader("Latest events")
    rows = tables.event_rows(reading.events)
    if rows:
        _table(rows)
    else:
        st.info("Nothing has happened yet.")


def model(reading: Reading, bundle: str) -> None:
    """Draw the card of the model."""
    card = read_card(bundle)
    st.subheader("Model in use")
    st.code(reading.status.model or "none", language=None)
    if card.model_id and card.model_id != reading.status.model:
        st.warning(
            "Another model judges than the one whose card follows: the node's, or one that was "
            "loaded since."
        )
    st.markdown(card.text)


def _table(rows: list[Row]) -> None:
    st.dataframe(pandas.DataFrame(rows), hide_index=True)


def _per_s(value: float | None) -> str:
    return "…" if value is None else f"{value:,.0f}"
