"""A run's document in, one page of Markdown out: the published table first, then everything."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from ids_appliance.bench import published
from ids_appliance.bench.document import Document, Quartiles, answers, rates, ratios
from ids_appliance.bench.steps import BEHIND_S


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table's lines; all but the first column are figures."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' + '---:|' * (len(head) - 1)}"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def report(told: Document, *, pictures: Sequence[str] = ()) -> str:
    """Return the page. pictures: files beside it."""
    parts = [
        _head(told),
        _paper(told),
        _rates(told),
        _ratios(told, "tapped", "over tapped forwarding"),
        _ratios(told, "paper-gateway", "over gateway-only built literally as published"),
        _ratios(told, "paper-offloaded", "over offloading built literally as published"),
        _beyond(told),
        _fixed(told),
        _latency(told),
        _notes(told),
        [f"![{name.removesuffix('.png')}]({name})" for name in pictures],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _head(told: Document) -> list[str]:
    machine, how = told["machine"], told["thoroughness"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        "# Benchmark",
        "",
        f"{told['date']}, `{told['command']}`",
        "",
        f"* {machine['cpu']}, {machine['cores']} cores, {machine['memory_mib']:,} MiB, "
        f"{machine['kernel']}; load before the run {machine['load_average']:.2f}",
        f"* {versions}; model {told['model']}",
        f"* steps of {how['step_s']:g} s, {how['confirmations']} confirmations of "
        f"{how['confirm_s']:g} s{confirmed(how)}, {how['rounds']} rounds, resolution "
        f"{how['resolution']:.0%}; {told['steps']} steps; {told['lost_once']} of the search lost "
        f"and were tried again, {told['held_then']} of these held then",
        "* lost = offered - forwarded, or offered - judged, whichever is more; at most 0.001 %. "
        + (
            "Counted at both ends' interfaces and by the gateway, which is another machine."
            if _live(told)
            else "Window open, responses off. Generator, gateway, node and sink share this "
            "machine's cores."
        ),
    ]
    if told["interrupted"]:
        lines += ["", "**The run was interrupted: what follows is what it had.**"]
    return lines


def _live(told: Document) -> bool:
    return "live" in told["mixes"]


def confirmed(how: dict[str, Any]) -> str:
    """Return which rounds' answers were confirmed, if not those of all."""
    n = how.get("confirmed_rounds", how["rounds"])  # which runs of before do not tell
    return f" (rounds 1 to {n})" if how["confirmations"] and n < how["rounds"] else ""


def _paper(told: Document) -> list[str]:
    return [
        f"## In the form of the published table (SYN flood, mix `{_mix(told)}`)",
        "",
        *in_the_published_form(told),
    ]


def _mix(told: Document) -> str:
    mixes: list[str] = told["mixes"] or [""]
    return "syn-single" if "syn-single" in mixes else mixes[0]


def in_the_published_form(told: Document) -> list[str]:
    """Return the published table with ours in it: kpps, CPU and memory at both rates."""
    mix = _mix(told)
    rows = [_published(mode) for mode in published.RATES_KPPS]
    names = [m for m in told["modes"] if m not in ("bare", "tapped") and rates(told, m, mix)[0]]
    for mode in names:
        found, limited = rates(told, mode, mix)
        assert found is not None
        cells = [f"measured, {mode}", _kpps(found.median, limited=limited)]
        for pps in (15_000.0, 19_500.0):
            cells += _at(told, mode, mix, pps)
        rows.append(cells)
    head = ["", "kpps without loss", "CPU at 15", "memory at 15", "CPU at 19.5", "memory at 19.5"]
    return [
        *table(head, rows),
        "",
        "Published: a Raspberry Pi 5's whole CPU and memory. Measured: the gateway's process, CPU "
        "of one core and resident MiB, then "
        + (
            "all cores and memory of the gateway."
            if _live(told)
            else "all cores of this machine (which also generates)."
        ),
    ]


def _published(mode: str) -> list[str]:
    memory = f"{published.MEMORY_PERCENT[mode]} %"
    cpu = [f"{published.CPU_PERCENT[mode, kpps]} %" for kpps in (15.0, 19.5)]
    return [f"published, {mode}", f"{published.RATES_KPPS[mode]}", cpu[0], memory, cpu[1], memory]


def _at(told: Document, mode: str, mix: str, pps: float) -> list[str]:
    """Return CPU and memory of a mode at a fixed rate; a rate that did not hold says so."""
    for step in told["fixed"]:
        asked = step["sent"]["requested_pps"]
        if step["mode"] == mode and step["mix"] == mix and asked == pps:
            used = step["used"].get("gateway")
            if used is None:
                return ["-", "-"]
            note = "" if step["verdict"] == "held" else f" ({step['verdict']})"
            whole = f"{used['cpu_percent']:.1f} %, all {step['machine_percent']:.0f} %{note}"
            memory = f"{used['resident_mib']:.0f} MiB"
            if "memory_percent" in step["counters"]:
                memory += f", all {step['counters']['memory_percent']} %"
            return [whole, memory]
    return ["-", "-"]


def _kpps(pps: float, *, limited: bool) -> str:
    return f"{'>= ' if limited else ''}{pps / 1000:.1f}"


def _rates(told: Document) -> list[str]:
    def cell(mode: str, mix: str) -> str:
        found, limited = rates(told, mode, mix)
        if found is None:
            return "-"
        spread = f" ({found.low / 1000:.1f}-{found.high / 1000:.1f})" if found.n > 1 else ""
        return _kpps(found.median, limited=limited) + spread

    rows = [[mode, *(cell(mode, mix) for mix in told["mixes"])] for mode in told["modes"]]
    return [
        "## Highest rate without loss, kpps: median (quartiles)",
        "",
        "`>=`: the generator could offer no more, at least once.",
        *_cut_off(told),
        "",
        *table(["mode", *told["mixes"]], rows),
    ]


def _cut_off(told: Document) -> list[str]:
    """Return whose searches were cut off."""
    cut = [f for f in told["found"] if not f.get("finished", True)]
    stand = [f for mix in told["mixes"] for f in answers(told, mix)]
    shown = [f for f in cut if f in stand]
    names = sorted({f"{f['mode']} ({f['mix']})" for f in shown})
    lines = []
    if names:
        lines = [f"Cut off before all confirmations, after steps that held: {', '.join(names)}."]
    if len(shown) < len(cut):
        lines.append(f"Cut off, and left out of what follows: {len(cut) - len(shown)} searches.")
    return lines


def _ratios(told: Document, to: str, what: str) -> list[str]:
    def cell(found: Quartiles | None, limited: bool) -> str:
        if found is None:
            return "-"
        mark = "~" if limited else ""
        if found.n == 1:
            return f"{mark}{found.median:.2f}"
        return f"{mark}{found.median:.2f} ({found.low:.2f}-{found.high:.2f}, n={found.n})"

    others = [mode for mode in told["modes"] if mode not in (to, "bare")]
    if to not in told["modes"] or not others:
        return []
    rows = [[m, *(cell(*ratios(told, m, to, mix)) for mix in told["mixes"])] for m in others]
    return [
        f"## The same {what}, pairs of one round",
        "",
        "`~`: the generator limited one of a pair, so that the ratio says little.",
        "",
        *table(["mode", *told["mixes"]], rows),
    ]


_WHY: Final = {
    "kernel_drops": "no room in the ring or queue",
    "shed": "shed",
    "unanswered": "unanswered",
    "malformed": "malformed",
    "flows_refused": "flows refused",
}
"""Counter -> what it says about packets without a verdict."""


def _beyond(told: Document) -> list[str]:
    """Return where packets were lost at the lowest rate that did not hold, in the first round."""
    rows = []
    for found in told["found"]:
        step = found.get("beyond")
        if found["round"] != 1 or step is None:
            continue
        offered = step["sent"]["packets"]
        counted = [
            f"{step['counters'][name]:,} {what}"
            for name, what in _WHY.items()
            if step["counters"].get(name)
        ]
        if step["behind_s"] > BEHIND_S:
            counted.append(f"{step['behind_s']:.1f} s behind")
        if step["verdict"] == "limited":
            counted.append("the generator was at its end")
        rows.append(
            [
                f"{found['mode']}, {found['mix']}",
                _kpps(step["sent"]["requested_pps"], limited=False),
                f"{offered:,}",
                f"{step['sent']['refused']:,}",
                f"{max(0, offered - step['forwarded']):,}",
                "-" if step["judged"] is None else f"{max(0, offered - step['judged']):,}",
                "; ".join(counted) or "-",
            ]
        )
    if not rows:
        return []
    head = ["mode, mix", "kpps", "offered", "refused at once", "not forwarded", "not judged"]
    return [
        "## The lowest rate that did not hold, first round: where packets were lost",
        "",
        "Refused at once: the queue before the gateway's CPU was full; not forwarded holds these.",
        "",
        *table([*head, "the mode's own counts"], rows),
    ]


def _fixed(told: Document) -> list[str]:
    rows = []
    for step in told["fixed"]:
        for name, used in step["used"].items():
            if name != "generator":
                rows.append(_used(step, name, used))
    if not rows:
        return []
    head = ["mode, mix", "pps", "process", "CPU of one core", "MiB", "all cores", "softirq", "lost"]
    head.append("link bytes a packet")
    return ["## Processes at fixed rates", "", *table(head, rows)]


def _latency(told: Document) -> list[str]:
    rows = [
        [
            f"{step['mode']}, {step['mix']}",
            f"{step['sent']['requested_pps']:,.0f}",
            f"{step['counters']['latency_p50_us']:,}",
            f"{step['counters']['latency_p99_us']:,}",
        ]
        for step in told["fixed"]
        if "latency_p50_us" in step["counters"]
    ]
    if not rows:
        return []
    return [
        "## From a packet's arrival to its verdict",
        "",
        "The gateway's ring, pipeline and classifier alone; blocks of the ring wait up to 4 ms, "
        "and while frames come by dozens, up to 10 ms longer for each other (capture/ring.py).",
        "",
        *table(["mode, mix", "pps", "median us", "p99 us"], rows),
    ]


def _used(step: dict[str, Any], name: str, used: dict[str, float]) -> list[str]:
    counters = step["counters"]
    link = counters.get("classifier_bytes_sent", 0) + counters.get("classifier_bytes_received", 0)
    return [
        f"{step['mode']}, {step['mix']}",
        f"{step['sent']['requested_pps']:,.0f}",
        name,
        f"{used['cpu_percent']:.1f} %",
        f"{used['resident_mib']:.0f}",
        f"{step['machine_percent']:.0f} %",
        f"{step['softirq_percent']:.1f} %",
        f"{100 * max(step['lost_forwarding'], step['lost_judging']):.4f} %",
        f"{link / max(1, step['judged'] or 0):.2f}" if link else "-",
    ]


def _notes(told: Document) -> list[str]:
    return ["## Notes", "", *(f"* {note}" for note in told["notes"])] if told["notes"] else []
