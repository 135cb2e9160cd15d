"""The page that Streamlit runs: one reading in, the chosen panel out, again every two seconds."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import streamlit as st

from ids_appliance.dashboard import blocked, drills, panels
from ids_appliance.dashboard.authority import Authority
from ids_appliance.dashboard.feed import Feed, Reading
from ids_appliance.dashboard.settings import Settings, decode_settings
from ids_appliance.dashboard.words import literal
from ids_appliance.errors import IdsError
from ids_appliance.gateway.actions import DecisionInfo
from ids_appliance.gateway.messages import Release

PANELS: Final = (
    "Overview",
    "Blocked senders",
    "Windows",
    "Queues and delays",
    "Votes",
    "Health",
    "Model",
    "Drills",
)
WITH_WINDOWS: Final = ("Windows", "Votes")
SAID_S: Final = 30.0
"""For so long the page says what came of an order."""


@st.cache_resource(max_entries=4)
def shared_feed(run_dir: str, refresh_s: float) -> Feed:
    """Return the one feed of this process, whoever opens the page."""
    return Feed(Path(run_dir), clock=time.monotonic, fresh_s=0.75 * refresh_s)


def page(settings: Settings) -> None:
    """Draw the whole page."""
    st.set_page_config(page_title="ids-appliance", layout="wide")
    feed = shared_feed(settings.run_dir, settings.refresh_s)
    authority = Authority(
        Path(settings.run_dir), Path(settings.token_file) if settings.token_file else None
    )
    with st.sidebar:
        st.title("ids-appliance")
        chosen = st.radio("Panel", PANELS, key="panel")
        st.text_input("Token, to change something", type="password", key="token", max_chars=128)
        st.caption(literal(f"It is the content of {authority.where}"))

    def release(decision: DecisionInfo) -> None:
        _order(authority, Release(text=blocked.target(decision)))
        feed.forget()

    def start(kind: str) -> None:
        try:
            drills.start(Path(settings.run_dir), kind, str(st.session_state.get("token", "")))
        except IdsError as error:
            _say(False, str(error))
        else:
            _say(True, f"the drill {kind} is under way")

    @st.fragment(run_every=settings.refresh_s)
    def live() -> None:
        try:
            looked_at = {"windows": chosen in WITH_WINDOWS, "events": chosen == "Overview"}
            reading = feed.read(blocked.view(**looked_at))
        except IdsError as error:
            st.error(literal(str(error)))
            return
        with st.container():
            _said()
        with st.container():
            panels.header(reading)
        with st.container(key=f"panel-{PANELS.index(chosen)}"):
            draw(reading)

    shown: dict[str, Callable[[Reading], None]] = {
        "Overview": _overview,
        "Blocked senders": lambda reading: blocked.blocked(reading, release),
        "Windows": panels.windows,
        "Queues and delays": panels.queues,
        "Votes": panels.votes,
        "Health": panels.health,
        "Model": lambda reading: panels.model(reading, settings.model),
        "Drills": lambda _reading: drills.drills(Path(settings.run_dir), start),
    }
    draw = shown[chosen]
    live()


def _overview(reading: Reading) -> None:
    panels.traffic(reading)
    panels.events(reading)


def _order(authority: Authority, order: Release) -> None:
    """Give an order and remember, for the page's next drawing, what came of it."""
    try:
        done = authority.give(order, str(st.session_state.get("token", "")))
    except IdsError as error:
        _say(False, str(error))
    else:
        _say(True, done.message)


def _say(good: bool, text: str) -> None:
    st.session_state["said"] = (good, text, time.monotonic() + SAID_S)


def _said() -> None:
    """Draw what came of the latest order, for a while."""
    good, text, until_s = st.session_state.get("said", (True, "", 0.0))
    if text and time.monotonic() < until_s:
        (st.success if good else st.error)(literal(text))


if __name__ == "__main__":
    page(decode_settings(sys.argv))
