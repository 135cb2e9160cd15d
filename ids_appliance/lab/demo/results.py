"""A performance in; its figures, and whether it went as it has to, out."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from ids_appliance.lab.demo.containment import Containment, containment
from ids_appliance.lab.demo.play import Performance

MAX_LOST: Final = 0.001
MIN_GOODPUT: Final = 0.95
MIN_NEWCOMERS: Final = 0.95
HEALED_S: Final = 5.0
_NS: Final = 1e9


@dataclass(slots=True)
class Result:
    """One act's figures; times in seconds since the attack's first packet (an ordinary act's:
    since its start)."""

    name: str
    title: str
    kind: str
    trigger_s: float | None = None
    rules: dict[str, int] = field(default_factory=dict)
    windows: int = 0
    window_s: float | None = None
    """How long its windows were open, all together."""
    closed_s: float | None = None
    """When the last one closed; None: none was open, or one still is."""
    attack_s: float | None = None
    """When the attacker stopped."""
    packets: int = 0
    """That came while a window was open."""
    judged: int = 0
    cells: int = 0
    votes: int = 0
    decided_s: float | None = None
    kernel_s: float | None = None
    """When the kernel had the element."""
    response: str = ""
    containment: Containment | None = None
    healed_s: float | None = None
    """ARP: how long the cache was wrong; None: it still is, or it never was."""
    poisoned: bool = False
    newcomers: tuple[int, int] | None = None
    turned_away: list[tuple[str, float]] = field(default_factory=list)
    """(host, when) of newcomers without an answer."""
    lost: tuple[int, int] = (0, 0)
    goodput: float | None = None
    """Of the same download without an attack."""
    accused: list[str] = field(default_factory=list)
    decided: list[str] = field(default_factory=list)
    spared: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """What is not as it has to be; empty: all is well."""
    alone: dict[str, Any] = field(default_factory=dict)
    """What trigger alone and forest alone would have done."""

    @property
    def ok(self) -> bool:
        """Everything went as it has to."""
        return not self.failures

    @property
    def lost_share(self) -> float:
        """Of the ordinary streams' packets, how many were lost."""
        return self.lost[0] / self.lost[1] if self.lost[1] else 1.0

    def as_json(self) -> dict[str, Any]:
        """Return it for results.json."""
        return asdict(self) | {"ok": self.ok}


def judge(one: Performance, *, baseline: float | None, true_mac: bytes = b"") -> Result:
    """Return an act's figures and what is wrong about them.

    baseline: bytes a second of the download without anything else; None: this is that act.
    true_mac: whose the address in the watched ARP cache is.
    """
    act, story, figures = one.act, one.story, one.figures
    zero = one.start_ns if figures.first_ns is None else figures.first_ns

    def since(time_ns: int | None) -> float | None:
        return None if time_ns is None else (time_ns - zero) / _NS

    told = next((d for d in story.decided if d.culprit), None)
    closed = [w["closed_ns"] for w in story.windows]
    result = Result(
        name=act.name,
        title=act.title.strip(),
        kind=act.kind,
        trigger_s=since(story.trigger_ns),
        rules=story.rules,
        windows=len(story.windows) + len(story.open_ids),
        window_s=story.total("duration_s") if story.windows else None,
        closed_s=since(max(closed)) if closed and not story.open_ids else None,
        attack_s=since(one.stop_ns),
        packets=story.total("packets"),
        judged=story.total("judged"),
        cells=story.total("cells_asked"),
        votes=story.total("votes"),
        decided_s=since(told.time_ns) if told else None,
        kernel_s=since(story.contained_ns),
        response=told.response if told else "",
        newcomers=figures.newcomers,
        turned_away=[(host, (t - zero) / _NS) for host, t in figures.turned_away],
        lost=figures.lost,
        accused=story.accused,
        decided=[f"{d.response} {d.subject}: {d.reason}" for d in story.decided],
        spared=story.spared,
        warnings=story.warnings,
        failures=list(one.problems),
    )
    if baseline is not None and figures.goodput is not None:
        result.goodput = figures.goodput / baseline
    if act.attacker:
        if figures.first_ns is not None:
            found = containment(
                figures.samples,
                first_ns=figures.first_ns,
                trigger_ns=story.trigger_ns,
                stop_ns=one.stop_ns,
            )
            if found.after_s is not None and result.kernel_s is not None:
                # Between two packets of a slow attacker nothing is contained yet.
                found = replace(found, after_s=max(found.after_s, result.kernel_s))
            result.containment = found
        result.poisoned, result.healed_s = _healed(figures.cache, true_mac)
    result.failures += _failures(one, result)
    if baseline is not None or act.kind != "ordinary":
        result.failures += _harm(result, downloaded=figures.goodput is not None)
    elif figures.goodput is None:
        result.failures.append("the download did not come")
    return result


def _failures(one: Performance, r: Result) -> list[str]:
    """Return what an act of its kind must do and did not."""
    found = []
    if r.kind == "attack":
        c = r.containment
        if r.trigger_s is None:
            found.append("nothing triggered")
        elif c is None or not c.contained:
            share = (
                "" if c is None else f": {c.late_arrived} of {c.late_sent} later packets arrived"
            )
            found.append(f"not contained within 2 s of the trigger{share}")
        if r.closed_s is None or r.attack_s is None or r.closed_s > r.attack_s:
            found.append("the window did not close while the attacker went on")
        if one.act.forged and r.newcomers and r.newcomers[0] < MIN_NEWCOMERS * r.newcomers[1]:
            found.append(f"only {r.newcomers[0]} of {r.newcomers[1]} new connections succeeded")
        if one.act.poisons and (not r.poisoned or r.healed_s is None or r.healed_s > HEALED_S):
            found.append(
                "the ARP cache was not right again within 5 s"
                if r.poisoned
                else "the ARP cache was never poisoned: nothing is shown"
            )
    elif r.kind in ("twin", "allowed"):
        if not r.windows:
            found.append("it did not open the window")
        elif r.closed_s is None:
            found.append("the window did not close")
    return found


def _harm(r: Result, *, downloaded: bool) -> list[str]:
    """Return what ordinary life suffered."""
    found = [f"accused: {subject}" for subject in r.accused]
    if r.lost_share > MAX_LOST:
        found.append(f"ordinary streams lost {r.lost[0]} of {r.lost[1]} packets")
    if not downloaded:
        found.append("the download did not come whole")
    elif r.goodput is not None and r.goodput < MIN_GOODPUT:
        found.append(f"the download kept {r.goodput:.0%} of its goodput")
    return found


def _healed(cache: tuple[tuple[int, bytes], ...], true_mac: bytes) -> tuple[bool, float | None]:
    """Return whether the cache was poisoned, and how long; None: for good."""
    wrong = next((t for t, mac in cache if mac not in (b"", true_mac)), None)
    if wrong is None:
        return False, None
    after = [(t, mac) for t, mac in cache if t > wrong]
    if not after or after[-1][1] not in (b"", true_mac):
        return True, None
    # From the last lie that was believed.
    last = max(t for t, mac in cache if mac not in (b"", true_mac))
    right = next(t for t, mac in cache if t > last)
    return True, (right - wrong) / _NS
