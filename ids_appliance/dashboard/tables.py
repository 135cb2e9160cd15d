"""A gateway's answers in, rows for tables and charts out; knows nothing of a browser."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from ids_appliance.dashboard.words import ago, plain
from ids_appliance.gateway.actions import DecisionInfo, WindowInfo
from ids_appliance.telemetry.traffic import PROTOCOLS

Row = dict[str, Any]

TRAFFIC: Final = {f"traffic_packets_{name}": name.replace("_", " ") for name in PROTOCOLS}
"""Counter -> what people call it."""

FATES: Final = {
    "judged": "judged",
    "contained": "of contained senders",
    "screened": "screened only",
    "shed": "given up",
    "unanswered": "unanswered",
    "kernel_drops": "lost in the ring",
}

DROPS: Final = "dropped_packets_"
"""Counters of what the kernel's rules have dropped begin so."""

LOSSES: Final = (
    ("kernel_drops", "packets lost because a ring was full"),
    ("shed", "packets given up under load"),
    ("unanswered", "packets that the node did not answer for"),
    ("gate_events_dropped", "triggers past the cap of one screening"),
    ("events_lost", "triggers lost in the screen"),
    ("log_dropped", "events that found the log's queue full"),
    ("log_lost", "events that the disk did not take"),
    ("control_events_lost", "events that followers have missed"),
    ("decisions_evicted", "decisions that gave way to stronger ones"),
    ("failed_elements", "elements that the kernel refused"),
    ("ledger_breaker_trips", "times that the mass-action breaker tripped"),
)

VOTES: Final = ("votes_", "vote_")


def drop_names(counters: Mapping[str, int]) -> list[str]:
    """Return the names of all counters of packets that the kernel's rules have dropped."""
    return [name for name in counters if name.startswith(DROPS)]


def who(decision: DecisionInfo) -> str:
    """Return a sender in one line: device, subject, where it is, its latest address."""
    where = f"@{decision.interface}" if decision.interface else ""
    parts = (decision.device, f"{decision.subject}{where}", decision.address)
    return plain(" · ".join(part for part in parts if part))


def what(decision: DecisionInfo) -> str:
    """Return what is done, or would be, and which time it is."""
    done = decision.response.replace("_", " ")
    if decision.would:
        done = f"{done} (would be {decision.would.replace('_', ' ')})"
    extras = [
        "by hand" if decision.by_hand else "",
        "on probation" if decision.probation else "",
        "" if decision.enforced or decision.would else "not in the kernel",
        f"number {decision.count} about it" if decision.count > 1 else "",
    ]
    return ", ".join([done, *(extra for extra in extras if extra)])


def spans(decision: DecisionInfo, now_ns: int) -> str:
    """Return how old a decision is and what is left of it."""
    age = ago((now_ns - decision.since_ns) / 1e9)
    return f"since {age}, {ago(decision.remaining_s)} left"


def window_rows(windows: Sequence[WindowInfo], now_ns: int) -> list[Row]:
    """Return rows of a timeline, one per window: from, until (UTC), rule, and its account."""
    return [
        {
            "number": window.id,
            "rule": plain(window.cause.partition(" ")[0] or "?", 40)
            + (" (drill)" if window.drill else ""),
            "cause": plain(window.cause),
            "from": moment(window.opened_ns),
            "until": moment(window.closed_ns or now_ns),
            "open": not window.closed_ns,
            "packets": window.packets,
            "judged": window.judged,
            "malicious": window.votes,
            "contained": window.contained,
            "shed": window.shed,
            "decisions": window.decisions,
            "closed because": plain(window.why_closed),
        }
        for window in windows
    ]


def vote_rows(windows: Sequence[WindowInfo]) -> list[Row]:
    """Return rows {number, verdict, packets}: what the model said of each window's packets."""
    return [
        {"number": window.id, "verdict": verdict, "packets": packets}
        for window in windows
        for verdict, packets in (
            ("malicious", window.votes),
            ("not malicious", max(0, window.judged - window.votes)),
        )
    ]


def model_votes(counters: Mapping[str, int]) -> list[Row]:
    """Return rows {model, votes} of an ensemble's members; none where one model judges."""
    return [
        {"model": name.removeprefix(prefix).replace("_", " "), "votes": total}
        for prefix in VOTES
        for name, total in counters.items()
        if name.startswith(prefix)
    ]


def loss_rows(counters: Mapping[str, int]) -> list[Row]:
    """Return rows {what, total} of everything that was lost or given up."""
    return [{"what": text, "total": counters.get(name, 0)} for name, text in LOSSES]


def event_rows(events: Sequence[Mapping[str, Any]], most: int = 50) -> list[Row]:
    """Return rows of the latest triggers, windows, decisions and responses, the latest first."""
    rows = []
    for event in reversed(events):
        kind = str(event.get("event_type", ""))
        detail = event.get(kind)
        if kind in ("stats", "health") or not isinstance(detail, Mapping):
            continue
        about = detail.get("subject") or detail.get("sender") or event.get("dest_ip", "")
        said = (detail.get("rule"), detail.get("state"), detail.get("action"))
        rows.append(
            {
                "time": str(event.get("timestamp", ""))[11:23],
                "event": kind,
                "what": plain(" ".join(str(word) for word in said if word), 60),
                "whom": plain(str(about), 80),
                "detail": plain(str(detail.get("detail") or detail.get("reason") or ""), 160),
                "drill": bool(detail.get("drill")),
            }
        )
        if len(rows) == most:
            break
    return rows


def moment(ns: int) -> datetime:
    """Return nanoseconds since the epoch as a time in UTC; the epoch for what is no time."""
    return datetime.fromtimestamp(ns / 1e9 if 0 <= ns < 1 << 62 else 0, UTC)
