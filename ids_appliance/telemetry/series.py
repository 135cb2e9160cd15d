"""Names of counters in, Prometheus series out: each named once, with its help text and labels.

Stages count under names of their own; here several of them become one series with a label where
they are parts of one sum. A name in no row below is not lost: it becomes an untyped series under
its own name, and `untold` finds it.
"""

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

PREFIX: Final = "ids_appliance_"
Kind = Literal["counter", "gauge", "unknown"]
Number = int | float


@dataclass(frozen=True, slots=True)
class Row:
    """One series, and which counters it is made of."""

    pattern: re.Pattern[str]
    """A counter's whole name; its group, where it has one, is the label's value."""
    name: str
    """Without the prefix, and without `_total`."""
    kind: Kind
    label: str
    """Name of the label; empty where there is none."""
    help: str


@dataclass(slots=True)
class Series:
    """One series with its present values."""

    row: Row
    values: dict[str, Number] = field(default_factory=dict)
    """Value of the label ("" without label) -> value."""


def _row(pattern: str, series: str, help_text: str) -> Row:
    """Return a row; `series` is written as counter:name or gauge:name{label}."""
    kind, name, label = re.fullmatch(r"(\w+):(\w+)(?:\{(\w+)\})?", series).groups("")  # type: ignore[union-attr]
    assert kind in ("counter", "gauge")
    return Row(
        re.compile(pattern), name, "gauge" if kind == "gauge" else "counter", label, help_text
    )


OUTCOMES: Final = "judged|unparsable|own|echo|unanswered|shed|screened|contained"

ROWS: Final = (
    # Capture.
    _row("kernel_packets", "counter:kernel_packets", "Packets that the kernel gave to the rings."),
    _row("kernel_drops", "counter:kernel_drops", "Packets lost because a ring was full."),
    _row("in_ring", "gauge:ring_packets", "Packets in the rings, not taken yet."),
    _row("freezes", "counter:ring_freezes", "Times that a ring was full."),
    _row("malformed", "counter:ring_malformed", "Records of a ring that made no sense."),
    _row("interface_(up|down)", "counter:interface_changes{to}", "Interfaces that came or went."),
    _row("traffic_packets_(\\w+)", "counter:traffic_packets{protocol}", "Captured packets."),
    _row("traffic_bytes_(\\w+)", "counter:traffic_bytes{protocol}", "Their bytes on the wire."),
    # Pipeline. delivered = sum of the outcomes + under way, at every instant.
    _row("delivered", "counter:delivered", "Frames taken from the rings."),
    _row(f"({OUTCOMES})", "counter:frames{outcome}", "Delivered frames, by what became of them."),
    _row("under_way", "gauge:frames_under_way", "Delivered frames without outcome yet."),
    _row("cell_(shed|hits|joined|asks|evictions)", "counter:cells{what}",
         "Cells: known, joined to a question under way, asked, evicted; packets shed for want."),
    _row("shed_(cleared|unnamed|suspect)", "counter:overload_shed{whose}",
         "Frames given up under load, by whose they were."),
    # Classifier and node.
    _row("(?:classifier_)?requests", "counter:classifier_requests", "Requests for new cells."),
    _row("(?:classifier_)?(?:rows|cells)", "counter:classifier_cells", "Cells asked in them."),
    _row("classifier_(answered|unanswered|stale)|(answered|stale)",
         "counter:classifier_answers{status}", "Requests by how they were answered."),
    _row("(?:classifier_)?bytes_(sent|received)", "counter:link_bytes{direction}",
         "Payload bytes of the link to the node."),
    _row("(?:classifier_)?(reconnects|failovers)", "counter:link_changes{what}",
         "Connections made anew, and to another node."),
    _row("(?:classifier_)?node_(losses|returns|probes)", "counter:node_changes{what}",
         "Times that the node failed, came back, was tried."),
    _row("(?:classifier_)?local_(requests|fallbacks|cells)", "counter:classifier_local{what}",
         "Work done here in the node's stead."),
    _row("(?:classifier_)?models", "counter:models_replaced", "Models replaced while running."),
    _row("(?:classifier_)?switches", "counter:mode_switches", "Changes of the mode."),
    # Triggers and window.
    _row("windows", "counter:windows", "Scrutiny windows opened by a trigger."),
    _row("window_samples", "counter:window_samples", "Sample windows."),
    _row("window_open", "gauge:window_open", "1 while a scrutiny window is open."),
    _row("window_(triggers|triggers_contained|decisions|decisions_late)",
         "counter:window_events{what}", "What opened, extended or could not extend a window."),
    _row("gate_(batches|slices|events_dropped)", "counter:gate{what}",
         "Batches screened, their parts judged apart, events past the cap."),
    _row("rule_(\\w+)", "counter:triggers{rule}", "Events of each prescreening rule."),
    _row("(flows|attempts_pending|devices|peers|bindings|suspects|floods)",
         "gauge:screen_entries{table}", "Entries of the prescreener's tables."),
    _row("keys_(\\w+)", "gauge:rule_keys{rule}", "Keys that a rule counts by at the moment."),
    _row("overflow_(\\w+)", "counter:table_overflows{table}", "Entries that found a table full."),
    # Zeek, where it prescreens.
    _row("zeek_alive", "gauge:zeek_alive", "1 while Zeek writes its log, else 0."),
    _row("standin_blind", "gauge:zeek_blind", "1 while Zeek gets no packets, though it lives."),
    _row("zeek_packets", "gauge:zeek_packets", "Packets that Zeek has got since its start."),
    _row("zeek_lost", "gauge:zeek_lost_packets", "Packets that Zeek's ring has lost."),
    _row("zeek_entries", "gauge:zeek_entries", "Entries of the tables of Zeek's rules."),
    _row("zeek_gone", "counter:zeek_gone", "Times that Zeek fell silent."),
    _row("zeek_(events|excess|malformed|stale|lines)", "counter:zeek_lines{kind}",
         "Lines of its log."),
    _row("zeek_lines_too_(long)", "counter:zeek_lines_refused{why}", "Lines that were too long."),
    _row("zeek_log_(opened|truncated)", "counter:zeek_logs{how}", "Its log begun anew."),
    _row("zeek_bytes_given_up", "counter:zeek_log_given_up_bytes", "Log that came too fast."),
    _row("standin_(silent|told_late)", "counter:standin_events{how}", "What our rules saw behind."),
    _row("floods_unnumbered", "counter:floods_unnumbered", "Floods past the fifteenth at a time."),
    _row("events_lost", "counter:triggers_lost", "Triggers past the cap of one screening."),
    _row("clock_set_back", "counter:packet_time_jumps", "Times that packet time ran backwards."),
    # Packets held for their verdict. received = accepted + dropped + held.
    _row("queue_(received|accepted|dropped)", "counter:inline_packets{what}",
         "Packets taken from the queue, and what was said about them."),
    _row("queue_held", "gauge:inline_held", "Packets that wait for their verdict."),
    _row("queue_waiting", "gauge:inline_waiting", "The same as the kernel counts them."),
    _row("queue_(full|unsent|lost_messages|malformed|refused|unanswered)",
         "counter:inline_lost{why}",
         "Packets that found the queue full and closed, or could not be handed over."),
    _row("queue_put", "counter:inline_queued", "Packets that the kernel put into the queue."),
    _row("queue_untimed", "counter:inline_untimed", "Packets without a time of the kernel's."),
    _row("forward_(queued|clean)", "counter:inline_forward{where}",
         "Routed packets that were to be queued, and those that passed beside the queue."),
    _row("inline_delay_us_le_(\\d+|inf)", "counter:inline_delay_bucket{le_us}",
         "Packets by the microseconds that they waited for their verdict, cumulated."),
    _row("inline_delay_us_sum", "counter:inline_delay_microseconds", "Sum of these delays."),
    _row("inline_delay_us_(p50|p99)", "gauge:inline_delay_quantile{quantile}",
         "Delay in microseconds that this share of all packets stays under."),
    _row("inline_(\\w+)", "counter:inline_verdicts{what}",
         "Verdicts about held packets that are told apart, such as late or spared ones."),
    _row("bypass_(passed|taken_back)", "counter:inline_bypass{what}",
         "Connections let past the queue, and taken back into it."),
    _row("bypass_(flows|followed)", "gauge:inline_flows{what}",
         "Connections beside the queue at the moment, and those that may come to be."),
    # Policy.
    _row("evidence_senders", "gauge:evidence_senders", "Senders with evidence at the moment."),
    _row("evidence_(\\w+)", "counter:evidence{what}",
         "Packets by how they weighed, and bounds that senders crossed."),
    _row("decisions_standing", "gauge:decisions_standing", "Decisions that stand."),
    _row("decisions_enforced", "gauge:decisions_enforced", "Of those, how many the kernel has."),
    _row("decisions_(\\w+)", "counter:decisions{what}", "Decisions by what was decided."),
    _row("ledger_breaker_holds", "gauge:breaker_holds", "1 while the mass-action breaker holds."),
    _row("ledger_breaker_trips", "counter:breaker_trips", "Times that it tripped."),
    _row("ledger_(\\w+)", "counter:ledger_notes{kind}", "What the ledger did not do, and why."),
    _row("contained_senders", "gauge:contained_senders", "Senders whose packets reach nobody."),
    # Enforcement.
    _row("(?:enforce_)?elements_(\\w+)", "gauge:set_elements{set}", "Elements of the sets."),
    _row("(?:enforce_)?capacity_(\\w+)", "gauge:set_capacity{set}", "Room in the kernel's sets."),
    _row("(?:enforce_)?dropped_packets_(\\w+)", "counter:dropped_packets{rule}",
         "Packets that the kernel's rules dropped."),
    _row("(?:enforce_)?dropped_bytes_(\\w+)", "counter:dropped_bytes{rule}",
         "Bytes that the kernel's rules dropped."),
    _row("(?:enforce_)?intended", "gauge:elements_intended", "Elements the kernel should have."),
    _row("(?:enforce_)?found", "gauge:elements_found", "Of those, how many it had."),
    _row("(?:enforce_)?inherited", "gauge:elements_inherited",
         "Elements of an earlier run that nobody has confirmed yet."),
    _row("(?:enforce_)?(batches|retries|failed_elements|refused|reconciles|rebuilds|repaired"
         "|foreign|evictions|orders_refused|stale_flows)",
         "counter:enforcement{what}", "Transactions with the kernel and what came of them."),
    _row("tc_packets_(.+)", "counter:tc_packets{queue}",
         "Packets that an outgoing interface's queue has sent, by interface/class."),
    _row("tc_bytes_(.+)", "counter:tc_bytes{queue}", "Bytes that it has sent."),
    _row("tc_dropped_(.+)", "counter:tc_dropped{queue}", "Packets that found it full."),
    _row("tc_waiting_bytes_(.+)", "gauge:tc_waiting_bytes{queue}", "Bytes that wait in it."),
    _row("tc_waiting_(.+)", "gauge:tc_waiting{queue}", "Packets that wait in it."),
    _row("tc_interfaces", "gauge:tc_interfaces", "Interfaces on which our classes stand."),
    _row("tc_missing", "gauge:tc_missing", "Interfaces that should have them too."),
    _row("tc_repairs", "counter:tc_repairs", "Times that classes were made anew."),
    # What it tells people.
    _row("notices_(\\w+)_waiting", "gauge:notices_waiting{channel}", "Notices that wait."),
    _row("notices_(\\w+)", "counter:notices{what}", "Notices by channel and what became of them."),
    _row("log_waiting", "gauge:events_waiting", "Events that wait for the disk."),
    _row("log_(\\w+)", "counter:events{what}", "Events by what became of them."),
    _row("state_saves", "counter:state_saves", "Times that the decisions were saved."),
    _row("control_(\\w+)", "counter:control{what}", "Connections and requests of the sockets."),
    _row("uptime_s", "gauge:uptime_seconds", "Time since the start."),
    _row("paused_s", "gauge:paused_seconds", "Time until a pause ends."),
    _row("enforcing", "gauge:enforcing", "1 where decisions go into the kernel."),
    _row("alarms", "gauge:alarms", "Conditions that need somebody's attention."),
    _row("node_down", "gauge:node_down", "1 while the node that should judge does not."),
)  # fmt: skip
"""In the order in which they are tried: the first that fits takes a counter."""


def series(counters: Mapping[str, Number]) -> list[Series]:
    """Return the series that counters make, in the order of ROWS, the untold ones last."""
    found: dict[str, Series] = {row.name: Series(row) for row in ROWS}
    for name, value in counters.items():
        row, label = _of(name)
        at = found.setdefault(row.name, Series(row))
        # Two names of one thing (as classifier_rows and classifier_cells) add up.
        at.values[label] = at.values.get(label, 0) + value
    return [one for one in found.values() if one.values]


def untold(names: Iterable[str]) -> Iterator[str]:
    """Yield the counters that have no row."""
    return (name for name in names if _of(name)[0].kind == "unknown")


@functools.lru_cache(maxsize=2048)
def _of(name: str) -> tuple[Row, str]:
    for row in ROWS:
        if match := row.pattern.fullmatch(name):
            return row, next((part for part in match.groups() if part), "")
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    return Row(re.compile(re.escape(name)), f"other_{plain}", "unknown", "", f"Counter {name}."), ""
