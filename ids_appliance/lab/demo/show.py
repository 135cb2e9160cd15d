"""A layout and a model in; the whole demo played, told, drawn and judged out."""

import ipaddress
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from ids_appliance._features import HostIdentity
from ids_appliance.lab.demo.acts import Act, sequence
from ids_appliance.lab.demo.alone import Judges, Labels
from ids_appliance.lab.demo.play import Performance, Player
from ids_appliance.lab.demo.plots import draw
from ids_appliance.lab.demo.results import Result, judge
from ids_appliance.lab.demo.stage import Stage
from ids_appliance.lab.demo.table import alone, closing, table
from ids_appliance.lab.demo.timeline import Timeline, named
from ids_appliance.lab.layouts import GATEWAY, HOSTS
from ids_appliance.lab.network import Lab
from ids_appliance.lab.services import NEEDS, offered

TOOLS: Final = (
    *NEEDS,
    *("arpspoof", "curl", "hping3", "mosquitto_pub", "mosquitto_sub", "nft", "nmap", "trafgen"),
)
WINDOW_S: Final = 5.0
"""The window's length here; the default is six times that, which is long to watch."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What the demo needs of its caller."""

    clock: Callable[[], int]
    """Nanoseconds since the epoch."""
    write: Callable[[str], None]
    """Prints a line."""
    labels: Labels
    colour: bool = False


def show(
    layout: str, *, model: Path, folder: Path, outside: Outside, only: Sequence[str] = ()
) -> list[Result]:
    """Play the demo; return the results. Leaves events, captures, figures and pictures in a folder.

    only: names of acts; empty: all. Raises IdsError where the stage itself is broken.
    """
    clock, write = outside.clock, outside.write
    folder.mkdir(parents=True, exist_ok=True)
    with Lab(layout) as lab, offered(lab):
        timeline = Timeline(write, clock, names=names(lab), colour=outside.colour)
        host = identity(lab)
        timeline.say("gateway", f"layout {layout}: {len(lab.hosts)} hosts are up")
        with Stage(
            lab, model=model, folder=folder, window_s=WINDOW_S, listener=timeline.event
        ) as stage:
            timeline.say("gateway", "gateway and node run, linked by TLS; enforcement is on")
            acts = [
                act
                for act in sequence(WINDOW_S, bridged=lab.layout.bridged)
                if not only or act.name in only
            ]
            player = Player(lab, stage, clock=clock, folder=folder / "acts")
            performances, results = _play(acts, player, lab, timeline)
        known = names(lab)
    judges = Judges(model, host, partial(named, names=known), window_s=WINDOW_S, allowed=["admin"])
    timeline.say("gateway", "the lab is gone; what would trigger or forest alone have done?")
    _decide_alone(performances, results, judges, outside.labels)
    (folder / "results.json").write_text(
        json.dumps({"layout": layout, "acts": [r.as_json() for r in results]}, indent=1) + "\n"
    )
    pictures = draw(performances, results, folder)
    for lines in (table(results), alone(results), closing(results)):
        write("")
        for line in lines:
            write(line)
    write("")
    made = ", ".join(["events.jsonl", "results.json", "acts/*/capture.pcap", *pictures])
    write(f"in {folder}: {made}" if pictures else f"in {folder}: {made}; no plots: no matplotlib")
    return results


def _play(
    acts: Sequence[Act], player: Player, lab: Lab, timeline: Timeline
) -> tuple[list[Performance], list[Result]]:
    performances: list[Performance] = []
    results: list[Result] = []
    baseline: float | None = None
    for number, act in enumerate(acts, 1):
        timeline.act(f"[{number}/{len(acts)}]", act.title, act.story)
        one = player.play(act, window_s=WINDOW_S, say=timeline.say)
        result = judge(one, baseline=baseline, true_mac=lab.mac("phone"))
        if act.kind == "ordinary":
            baseline = one.figures.goodput
        performances.append(one)
        results.append(result)
        for failure in result.failures:
            timeline.say("bad", failure)
        if result.ok:
            timeline.say("good", _well(result))
    return performances, results


def _decide_alone(
    performances: Sequence[Performance],
    results: Sequence[Result],
    judges: Judges,
    labels: Labels,
) -> None:
    """Ask of every recording what trigger alone, forest alone and both would have done."""
    told: dict[str, dict[str, Any]] = {}
    recorded = [one for one in performances if one.capture is not None]
    elsewhere = {one.act.unprotected for one in recorded} & {one.act.name for one in recorded}
    for one in recorded:
        if one.act.unprotected in elsewhere or one.capture is None:
            continue
        label = labels(one.capture.parent / "labels.json")
        found = judges.act(one.capture, label, attacked=bool(one.act.attacker))
        told[one.act.name] = {
            way: asdict(verdict) | {"words": verdict.words()}
            for way, verdict in (
                ("trigger", found.trigger),
                ("forest", found.forest),
                ("both", found.both),
            )
        }
    for one, result in zip(performances, results, strict=True):
        name = one.act.unprotected if one.act.unprotected in elsewhere else one.act.name
        result.alone = told.get(name, {})


def _well(r: Result) -> str:
    """Return in a sentence that an act went as it has to."""
    if r.kind == "attack" and r.containment is not None:
        return (
            f"contained {r.containment.after_s:.2f} s after the first packet; nobody else accused"
        )
    if r.kind == "observed" and r.newcomers:
        return f"{r.newcomers[0]} of {r.newcomers[1]} new connections to it succeeded meanwhile"
    if r.kind == "twin":
        return "it looked like an attack, was looked at, and nothing was done about it"
    return "nobody was accused"


def names(lab: Lab) -> dict[str, str]:
    """Return MAC or address -> host, for people."""
    found = {address: host for host in lab.hosts for address in lab.addresses(host)}
    return found | {lab.mac(h.name).hex(":"): h.name for h in HOSTS}


def identity(lab: Lab) -> HostIdentity:
    """Return who the lab's gateway is, for replays of what was recorded at its ports."""
    return HostIdentity(
        sorted({lab.mac(GATEWAY, port) for port in lab.gateway_interfaces}),
        [ipaddress.ip_address(a).packed for a in lab.addresses(GATEWAY)],
        routers=lab.routers,
    )
