"""Dice in, scenarios of the lab out: one attack each, with ordinary life around it.

Generators of `LEARNT` are for training, those of `UNSEEN` for tests alone. Numbers are drawn over
wide ranges, and none is one that a shipped scenario (and so the demo) uses for the same tool.
"""

import math
import random
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

from ids_appliance.lab import scenarios, tools
from ids_appliance.lab.network import Lab
from ids_appliance.lab.running import Command
from ids_appliance.lab.scenarios import Scenario, Step, Tool

SWEEP: Final = Path(__file__).with_name("sweep.py")
WORMS: Final = ("23,2323", "22,2222", "80,8080,81", "5555", "7547", "37215,52869", "23,26,2323")
"""Ports that worms have looked for; the demo's sweep is 23,2323 at 100 a second."""


class Sweep(tools.Scan, frozen=True):
    """nping and the raw sweep: one SYN to each port of each address."""

    seed: int = 0


def nping(lab: Lab, host: str, what: Sweep, seconds: float) -> Command:
    """Send SYNs with nping, which crafts its own and waits for nothing."""
    words = ["nping", "--tcp", "--flags", "syn", "-p", what.ports, "--rate", str(what.pps)]
    words += ["-c", "1", "-N", "-q", "-H", tools.targets(lab, what.targets)]
    return tools.start(lab, host, words, seconds=seconds, allowed=(0, 1))


def raw_sweep(lab: Lab, host: str, what: Sweep, seconds: float) -> Command:
    """Send SYNs with sweep.py."""
    count = max(40, round(what.pps * seconds))
    words = [sys.executable, str(SWEEP), tools.targets(lab, what.targets), what.ports]
    words += [str(what.pps), str(count), str(what.seed)]
    return tools.start(lab, host, words, seconds=seconds)


OWN: Final = {"nping": Tool(Sweep, nping, "nping"), "raw_sweep": Tool(Sweep, raw_sweep)}
"""Tools that shipped scenarios do without: whoever plays these lends them to scenarios.TOOLS."""


def between(rng: random.Random, low: float, high: float) -> int:
    """Return a whole number whose logarithm is uniform."""
    return round(math.exp(rng.uniform(math.log(low), math.log(high))))


def not_the_demos(tool: str, key: str, value: Any) -> Any:
    """Return a number, moved on where a shipped scenario uses it for the tool."""
    used = _used(tool, key)
    while value in used:
        value += 1
    return value


@cache
def _used(tool: str, key: str) -> frozenset[Any]:
    steps = [step for name in scenarios.names() for step in scenarios.read(name).steps]
    return frozenset(step.with_.get(key) for step in steps if step.tool == tool)


def _mirai(rng: random.Random, tool: str) -> tuple[dict[str, Any], str]:
    with_: dict[str, Any] = {"targets": "iot", "ports": rng.choice(WORMS)}
    with_["pps"] = not_the_demos(tool, "pps", between(rng, 15, 800))
    if tool == "nmap":
        with_ |= {"shuffled": rng.random() < 0.5, "kind": rng.choice(("syn", "connect"))}
    else:
        with_["seed"] = rng.randrange(2**31)
    return with_, "iot"


def _recon(rng: random.Random, tool: str) -> tuple[dict[str, Any], str]:
    first = rng.choice((1, 1, 20, 1000, 5000, 30_000))
    victim = f"dev{rng.randrange(1, 21):02}"
    with_ = {
        "targets": victim,
        "ports": f"{first}-{first + between(rng, 30, 1500)}",
        "kind": rng.choice(("syn", "syn", "connect")),
        "pps": not_the_demos(tool, "pps", between(rng, 20, 1500)),
        "ping": rng.random() < 0.3,
    }
    return with_, victim


def _dos(rng: random.Random, tool: str) -> tuple[dict[str, Any], str]:
    victim = rng.choice(("server", f"dev{rng.randrange(1, 21):02}"))
    with_ = {
        "target": victim,
        "port": rng.choice((80, 1883, 443, 8080, 23, 554)),
        "pps": not_the_demos(tool, "pps", between(rng, 150, 4000)),
        "flags": rng.choice(("S", "S", "S", "SA", "A", "PA", "FA", "R")),
        "spoof": rng.choice(("", "", "random")),
    }
    return with_, victim


def _spoofing(rng: random.Random, tool: str) -> tuple[dict[str, Any], str]:
    victim = rng.choice(("hub", "phone"))
    return {"target": victim, "claim": "@router", "both": rng.random() < 0.5}, victim


DRAWN: Final = {"Mirai": _mirai, "Recon": _recon, "DoS": _dos, "Spoofing": _spoofing}
LEARNT: Final = (
    ("Mirai", "nmap"),
    ("Recon", "nmap"),
    ("DoS", "hping3"),
    ("DoS", "trafgen"),
    ("Spoofing", "arpspoof"),
)
UNSEEN: Final = (("Mirai", "nping"), ("Mirai", "raw_sweep"))


def scenario(family: str, tool: str, number: int) -> Scenario:
    """Return the scenario of that number; the same one each time."""
    rng = random.Random(f"{family} {tool} {number}")
    with_, victim = DRAWN[family](rng, tool)
    seconds = rng.uniform(4, 9)
    victim = "dev01" if victim == "iot" else victim
    attack = Step("attack", 2.0, seconds, ("bot",), tool, family, victim, with_=with_)
    return Scenario(f"{family}-{tool}-{number}", "drawn", (*_life(rng, 4 + seconds), attack))


def _life(rng: random.Random, seconds: float) -> tuple[Step, ...]:
    every = {"every_s": rng.uniform(0.3, 2.0)}
    some = f"devices:{rng.randrange(2, 8)}"
    steps = [Step("telemetry", 0.0, seconds, (some, "bot"), "mosquitto_pub", with_=every)]
    if rng.random() < 0.6:
        steps.append(Step("names", 0.3, seconds - 0.5, ("phone", "bot"), "names"))
    if rng.random() < 0.5:
        steps.append(Step("discovery", 0.5, seconds - 1, ("phone",), "discover"))
    if rng.random() < 0.4:
        who = {"target": "dev04", "every_s": rng.uniform(0.5, 2)}
        steps.append(Step("looks", 0.4, seconds - 1, ("phone",), "connect", with_=who))
    return tuple(steps)
