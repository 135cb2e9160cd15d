"""A TOML file in, a checked scenario out: who does what, when, for how long, and what it is.

A file has a name, a sentence about it, the layouts it is for and its steps:

    [[step]]
    id = "flood"
    at = 5.0                      # seconds after the start
    seconds = 10.0
    who = ["bot"]                 # hosts; "devices" are all twenty, "devices:5" the first five
    tool = "hping3"               # see TOOLS
    attack = "DoS"                # family; without it the step is ordinary life
    victim = "dev01"
    opens = "dos"                 # rule that should open the window
    twin_of = "flood"             # ordinary: what it is mistaken for
    [step.with]                   # the tool's own parameters
    target = "dev01"
"""

import difflib
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from ids_appliance.errors import LabError
from ids_appliance.lab import life, tools
from ids_appliance.lab.layouts import LAYOUTS
from ids_appliance.lab.network import Lab
from ids_appliance.lab.running import Group, Running
from ids_appliance.lab.services import start_broker, stop_broker

HOME: Final = Path(__file__).parent / "scenarios"
MAX_SECONDS: Final = 600.0
Family = Literal["", "DoS", "Recon", "Mirai", "Spoofing"]
Rule = Literal["", "dos", "port_scan", "mirai", "arp_spoof"]


@dataclass(frozen=True, slots=True)
class Tool:
    """One thing that a step may do."""

    parameters: type[tools.Parameters]
    start: Callable[[Lab, str, Any, float], Running]
    needs: str = ""
    """The program that must be installed."""


class PowerCut(tools.Parameters, frozen=True):
    """The broker is away for the step's time, then back."""


class _Outage:
    """The broker is down until it is stopped."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._over = False
        stop_broker(lab)

    def ended(self) -> bool:
        """Running."""
        return self._over

    def stop(self) -> None:
        """Running."""
        if not self._over:
            self._over = True
            start_broker(self._lab)


def _power_cut(lab: Lab, host: str, what: PowerCut, seconds: float) -> Running:
    return _Outage(lab)


TOOLS: Final[dict[str, Tool]] = {
    "arpspoof": Tool(tools.Spoof, tools.arpspoof, "arpspoof"),
    "connect": Tool(life.Connect, life.connect),
    "curl": Tool(tools.Transfer, tools.curl, "curl"),
    "discover": Tool(life.Discover, life.discover),
    "hping3": Tool(tools.Flood, tools.hping3, "hping3"),
    "iperf3": Tool(tools.Stream, tools.iperf3, "iperf3"),
    "lease": Tool(life.Lease, life.lease),
    "mosquitto_pub": Tool(tools.Telemetry, tools.mosquitto_pub, "mosquitto_pub"),
    "mosquitto_sub": Tool(tools.Subscribe, tools.mosquitto_sub, "mosquitto_sub"),
    "names": Tool(life.Names, life.names),
    "new_card": Tool(life.NewCard, life.new_card),
    "nmap": Tool(tools.Scan, tools.nmap, "nmap"),
    "poll": Tool(life.Poll, life.poll),
    "power_cut": Tool(PowerCut, _power_cut, "mosquitto"),
    "probe": Tool(life.Probe, life.probe),
    "reconnect": Tool(life.Reconnect, life.reconnect, "mosquitto_pub"),
    "tcpreplay": Tool(tools.Replay, tools.tcpreplay, "tcpreplay"),
    "trafgen": Tool(tools.Flood, tools.trafgen, "trafgen"),
}


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"with_": "with"}):
    """One tool, started on some hosts."""

    id: str
    at: float
    seconds: float
    who: tuple[str, ...]
    tool: str
    attack: Family = ""
    """Family, of an attack; empty: ordinary life."""
    victim: str = ""
    opens: Rule = ""
    twin_of: str = ""
    with_: dict[str, Any] = {}

    @property
    def parameters(self) -> Any:
        """The tool's own struct. Raises LabError naming the key that is wrong."""
        try:
            return msgspec.convert(self.with_, TOOLS[self.tool].parameters)
        except msgspec.ValidationError as error:
            raise LabError(f"step {self.id}, {self.tool}: {error}") from error


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"steps": "step"}):
    """Steps that belong together."""

    name: str
    about: str
    steps: tuple[Step, ...]
    layouts: tuple[str, ...] = tuple(LAYOUTS)

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return max((step.at + step.seconds for step in self.steps), default=0.0)

    @property
    def needs(self) -> tuple[str, ...]:
        """Programs that must be installed."""
        return tuple(sorted({TOOLS[s.tool].needs for s in self.steps if TOOLS[s.tool].needs}))


def names() -> list[str]:
    """Return the scenarios that ship."""
    return sorted(path.stem for path in HOME.glob("*.toml"))


def read(name: str) -> Scenario:
    """Return a scenario by its name, or from a file of one's own. Raises LabError."""
    path = Path(name) if name.endswith(".toml") else HOME / f"{name}.toml"
    if not path.is_file():
        near = difflib.get_close_matches(name, names(), n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names())}"
        raise LabError(f"there is no scenario {name!r}: {hint}")
    try:
        scenario = msgspec.convert(tomllib.loads(path.read_text()), Scenario)
    except (msgspec.ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LabError(f"{path.name}: {error}") from error
    for step in scenario.steps:
        _check(step, scenario)
    return scenario


def _check(step: Step, scenario: Scenario) -> None:
    where = f"{scenario.name}, step {step.id}"
    if step.tool not in TOOLS:
        near = difflib.get_close_matches(step.tool, TOOLS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(TOOLS)}"
        raise LabError(f"{where}: no tool {step.tool!r}: {hint}")
    if not (step.at >= 0 and 0 < step.seconds and step.at + step.seconds <= MAX_SECONDS):
        raise LabError(f"{where}: it must end within {MAX_SECONDS:.0f} s")
    if bad := [name for name in scenario.layouts if name not in LAYOUTS]:
        raise LabError(f"{where}: no layout {bad[0]!r}: {', '.join(LAYOUTS)}")
    if [s.id for s in scenario.steps].count(step.id) > 1:
        raise LabError(f"{where}: there are two of this id")
    if step.attack and not step.victim:
        raise LabError(f"{where}: an attack has a victim")
    _ = step.parameters


def hosts(lab: Lab, step: Step) -> list[str]:
    """Return the hosts of a step. Raises LabError for one that the lab has not."""
    found: list[str] = []
    for word in step.who:
        group, _, count = word.partition(":")
        if group == "devices":
            found += lab.devices[: int(count) if count.isdigit() else None]
        else:
            lab.full(word)
            found.append(word)
    return found


def start(lab: Lab, step: Step) -> Running:
    """Let a step begin on all its hosts."""
    tool = TOOLS[step.tool]
    what = step.parameters
    return Group([tool.start(lab, host, what, step.seconds) for host in hosts(lab, step)])
