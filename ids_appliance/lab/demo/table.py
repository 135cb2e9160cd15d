"""Results in, the closing tables out, as lines of at most 100 columns."""

from collections.abc import Iterator, Sequence

from ids_appliance.lab.demo.results import Result
from ids_appliance.lab.demo.timeline import COLUMNS

HEAD = (
    f"{'':21}{'trigger':>8}{'window':>8}{'packets':>9}{'cells':>8}{'in the':>8}{'con-':>9}"
    f"{'ordinary':>9}{'good-':>7}{'falsely':>9}"
)
SECOND = (
    f"{'':21}{'after':>8}{'open':>8}{'judged':>9}{'asked':>8}{'kernel':>8}{'tained':>9}"
    f"{'lost':>9}{'put':>7}{'accused':>9}"
)


def table(results: Sequence[Result]) -> Iterator[str]:
    """Yield the lines of what happened, an act a line."""
    yield HEAD
    yield SECOND
    yield "-" * len(HEAD)
    for r in results:
        yield row(r)


def row(r: Result) -> str:
    """Return an act's line; a result that is not as it has to be is marked."""
    contained = r.containment.after_s if r.containment else None
    if r.kind == "attack":
        tained = _s(contained) if r.containment and r.containment.contained else "NO"
    else:
        tained = "-"
    windows = _s(r.window_s) if r.windows else "none"
    return (
        f"{r.title if r.kind != 'twin' else '  ' + r.title:21}{_s(r.trigger_s):>8}{windows:>8}"
        f"{r.judged:>9,}{r.cells:>8,}{_s(r.kernel_s):>8}{tained:>9}"
        f"{r.lost_share:>9.2%}{'' if r.goodput is None else f'{r.goodput:.0%}':>7}"
        f"{len(r.accused):>9}{'' if r.ok else ' !'}"
    )


def alone(results: Sequence[Result]) -> Iterator[str]:
    """Yield the lines of what trigger alone and forest alone would have done."""
    yield f"{'':21} {'trigger alone':24} {'forest alone':24} both"
    yield "-" * len(HEAD)
    for r in results:
        if r.alone and r.kind != "observed":
            cells = [r.alone[way]["words"] for way in ("trigger", "forest", "both")]
            title = r.title if r.kind != "twin" else "  " + r.title
            yield f"{title:21} {cells[0]:24} {cells[1]:24} {cells[2]}"[:COLUMNS]


def closing(results: Sequence[Result]) -> Iterator[str]:
    """Yield what is shown, and what is wrong with it."""
    attacks = [r for r in results if r.kind == "attack"]
    twins = [r for r in results if r.kind in ("twin", "allowed")]
    contained = sum(bool(r.containment and r.containment.contained) for r in attacks)
    quiet = sum(bool(r.windows) and not r.decided for r in twins)
    accused = sum(len(r.accused) for r in results)
    yield f"{contained} of {len(attacks)} attacks contained, {accused or 'nobody'} falsely accused"
    yield f"{quiet} of {len(twins)} benign twins opened the window and were left alone"
    for r in results:
        if r.kind not in ("attack", "observed"):
            continue
        yield f"{r.title.strip()}:"
        yield from (f"  {sentence}" for sentence in _particulars(r))
    wrong = [(r.title.strip(), failure) for r in results for failure in r.failures]
    if wrong:
        yield "NOT AS IT SHOULD BE:"
    for title, failure in wrong:
        yield f"  {title}: {failure}"[:COLUMNS]


def _particulars(r: Result) -> Iterator[str]:
    c = r.containment
    if c is not None and r.kind == "attack":
        yield (
            f"{c.arrived:,} of {c.sent:,} packets reached the victim; of {c.late_sent:,} sent "
            f"later than 2 s after the trigger: {c.late_arrived}"
        )
    if r.kind == "attack" and r.attack_s is not None and r.closed_s is not None:
        gap = r.attack_s - r.closed_s
        yield f"the window closed while the attacker went on for another {gap:.1f} s"
    if r.newcomers and r.newcomers[1]:
        yield f"{r.newcomers[0]} of {r.newcomers[1]} new connections to the flooded port succeeded"
    if r.poisoned:
        healed = "never" if r.healed_s is None else f"after {r.healed_s:.1f} s"
        yield f"the poisoned ARP cache was right again {healed}"


def _s(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.2f} s"
