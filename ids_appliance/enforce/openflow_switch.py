"""Changes of a bridge's flow entries in, what the bridge says out: ovs-ofctl(8), ovs-appctl(8).

A change is a bundle (--bundle): all of it holds afterwards, or none. OpenFlow 1.3 has bundles by
the ONF's extension 230, which Open vSwitch speaks, so a bridge that is restricted to 1.3 will do.
"""

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ids_appliance.config import OpenFlow
from ids_appliance.enforce.elements import Place
from ids_appliance.errors import EnforceError

VERSIONS: Final = "OpenFlow13,OpenFlow14,OpenFlow15"
TIMEOUT_S: Final = 5
PACKAGE: Final = "openvswitch-switch"

_FIELD: Final = re.compile(
    r"(cookie|duration|table|n_packets|n_bytes|hard_timeout)=(\w+(?:\.\d+)?)"
)
_PORT: Final = re.compile(r"^ (\w+)\(([^)]+)\): addr:", re.MULTILINE)
_METER: Final = re.compile(
    r"^meter[=:](\d+) .*?rate=(\d+)(?: burst_size=(\d+))?", re.MULTILINE | re.S
)
_BAND: Final = re.compile(r"^meter:(\d+) .*\n(?:bands:\n)?0: packet_count:(\d+)", re.MULTILINE)
_LEARNED: Final = re.compile(r"^\s*(\d+|LOCAL)\s+\d+\s+([0-9a-f:]{17})\s", re.MULTILINE)
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_FAILING: Final = ("fail_mode", "controller")
_IN_PORT: Final = re.compile(r"\bin_port=(\d+|LOCAL)\b")


class SwitchError(EnforceError):
    """The switch refused a change, or nobody answers; the message is the tool's first line."""

    def __init__(self, said: str, *, gone: bool) -> None:
        super().__init__(said)
        self.gone: Final = gone
        """Nobody answers at the bridge's socket."""


@dataclass(frozen=True, slots=True)
class Flow:
    """One flow entry as the switch lists it."""

    place: Place
    """Table, actions and match, the match's fields in alphabetical order."""
    cookie: int
    left_s: float
    """inf where it has no hard time-out."""
    packets: int
    octets: int


class Switch:
    """One bridge, asked by a process each (10 ms). All of it raises SwitchError; EnforceError where
    the tools are not installed."""

    def __init__(self, settings: OpenFlow) -> None:
        self._settings = settings
        self.name: Final = settings.target or settings.bridge
        self._environment = dict(os.environ)
        if settings.ovs_run_dir:
            self._environment["OVS_RUNDIR"] = settings.ovs_run_dir
        given = (("-p", settings.key), ("-c", settings.cert), ("-C", settings.ca))
        self._tls = [word for option, path in given if path for word in (option, path)]

    def change(self, lines: str) -> None:
        """Carry out flow mods as one transaction. lines: `add ...` and `delete_strict ...`."""
        if lines:
            self._ofctl("--bundle", "add-flows", self.name, "-", fed=lines)

    def flows(self, cookie: str) -> list[Flow]:
        """Return the entries whose cookie matches; cookie: VALUE/MASK."""
        text = self._ofctl("--no-names", "dump-flows", self.name, f"cookie={cookie}")
        return list(_flows(text))

    def count(self, cookie: str) -> int:
        """Return how many entries there are of a cookie."""
        text = self._ofctl("dump-aggregate", self.name, f"cookie={cookie}")
        return int(text.rpartition("flow_count=")[2] or -1)

    def ports(self) -> dict[str, int]:
        """Return the numbers of the bridge's ports by name, its own (LOCAL) left out."""
        text = self._ofctl("--no-names", "dump-ports-desc", self.name)
        return {name: int(number) for number, name in _PORT.findall(text) if number.isdigit()}

    def where(self, mac: bytes) -> set[str]:
        """Return the numbers of the ports that a MAC is known at: by the switch's own learning
        (action NORMAL, bridges of this machine only) and by a controller's entries about it."""
        text = self._ofctl("--no-names", "dump-flows", self.name, f"dl_src={mac.hex(':')}")
        found = {match[1] for line in text.splitlines() if (match := _IN_PORT.search(line))}
        if not self._settings.target:
            table = self._run(["ovs-appctl", f"--timeout={TIMEOUT_S}", "fdb/show", self.name])
            found |= {port for port, known in _LEARNED.findall(table) if known == mac.hex(":")}
        return found

    def opens(self) -> tuple[bool, bool]:
        """Return whether the bridge forwards everything while it has no controller, whatever its
        entries say, and whether it does so now. Not known of a switch elsewhere: no."""
        if self._settings.target:
            return False, False
        ask = ["ovs-vsctl", f"--timeout={TIMEOUT_S}"]
        mode, _, held = self._run([*ask, "get", "bridge", self.name, *_FAILING]).partition("\n")
        controllers = _UUID.findall(held)
        if "secure" in mode or not controllers:
            return False, False
        words = [*ask, "--bare", "--columns=is_connected", "list", "controller", *controllers]
        return True, "true" not in self._run(words)

    def meters(self) -> dict[int, tuple[int, int]]:
        """Return the rate and the burst of every meter, packets a second and packets."""
        text = self._ofctl("dump-meters", self.name)
        return {int(n): (int(rate), int(burst or 0)) for n, rate, burst in _METER.findall(text)}

    def metered(self) -> dict[int, int]:
        """Return how many packets each meter has dropped."""
        return {int(n): int(k) for n, k in _BAND.findall(self._ofctl("meter-stats", self.name))}

    def add_meter(self, number: int, *, rate_pps: int, burst: int) -> None:
        """Let a meter be there."""
        band = f"bands=type=drop,rate={rate_pps},burst_size={burst}"
        self._ofctl("add-meter", self.name, f"meter={number},pktps,burst,stats,{band}")

    def delete_meter(self, number: int) -> None:
        """Take a meter away, and the entries that use it with it."""
        self._ofctl("del-meters", self.name, f"meter={number}")

    def _ofctl(self, *words: str, fed: str = "") -> str:
        start = ["ovs-ofctl", f"--timeout={TIMEOUT_S}", "-O", VERSIONS, *self._tls]
        return self._run([*start, *words], fed=fed)

    def _run(self, words: Sequence[str], *, fed: str = "") -> str:
        try:
            done = subprocess.run(
                words,
                input=fed,
                env=self._environment,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=2 * TIMEOUT_S,
                check=False,
            )
        except FileNotFoundError as error:
            raise EnforceError(f"{words[0]} is not installed: apt-get install {PACKAGE}") from error
        except subprocess.TimeoutExpired as error:
            raise SwitchError(f"{self.name}: {words[0]} does not come back", gone=True) from error
        if done.returncode == 0:
            return done.stdout
        said = [line for line in done.stderr.splitlines() if line and "|WARN|" not in line]
        first = next((line for line in said if words[0] in line or "ERROR" in line), "")
        line = (first or (said or ["no reason given"])[0]).removeprefix(f"{words[0]}: ").strip()
        gone = done.returncode < 0 or "connect" in line or "not a bridge" in line
        raise SwitchError(f"bridge {self.name}: {line[:200]}", gone=gone)


def key_of(fields: Sequence[str]) -> str:
    """Return a match in the one form that is compared: its fields in alphabetical order."""
    return ",".join(sorted(fields))


def _flows(text: str) -> Iterator[Flow]:
    for line in text.splitlines():
        head, found, actions = line.strip().partition(" actions=")
        if not found or not head.startswith("cookie="):
            continue
        said, _, match = head.rpartition(" ")
        has = dict(_FIELD.findall(said))
        hard = float(has["hard_timeout"]) if "hard_timeout" in has else float("inf")
        yield Flow(
            Place(has.get("table", "0"), actions, key_of(match.split(","))),
            int(has["cookie"], 16),
            hard - float(has.get("duration", 0)),
            int(has.get("n_packets", 0)),
            int(has.get("n_bytes", 0)),
        )
