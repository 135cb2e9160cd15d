"""Suricata under the benchmark's load: how it is started, and its own counters in our names.

Two ways, each with one thread, as our gateway has one: `suricata-afpacket` reads a ring beside the
packets' way, `suricata-nfqueue` holds every packet for its verdict, in our inline mode's rule. It
has the machine's own configuration and rules, and three of ours for what S1's triggers look for.
Changed in its favour: a ring of 64 MiB, as the literal twins have, alerts in a short file and
nothing else written, want of memory to be ignored (exception-policy in its documentation; in a
queue it drops packets then all the same, and they count as not forwarded).
"""

import json
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any, Final, Literal

from ids_appliance.errors import LabError

Way = Literal["afpacket", "nfqueue"]
SETTINGS: Final = Path("/etc/suricata/suricata.yaml")
READY: Final = "Engine started"
LAG_S: Final = 5.0
"""What is read may be so old: sums are drawn every second (stats.interval), its threads hand their
counts over less often. Measured with 7.0.10: 2.5 to 3.5 s."""
QUEUE: Final = 5
RING_MIB: Final = 64
_FRAME_BYTES: Final = 1600
"""What Suricata reckons for a frame, roughly, when it lays out a ring for so many packets."""
_ANSWER_BYTES: Final = 1 << 20
_TOO_EARLY: Final = "stats not yet synchronized"  # nothing was counted so far
_OUR_RULES: Final = (
    'alert tcp any any -> any any (msg:"SYN flood"; flags:S; '
    "threshold:type both, track by_dst, count 500, seconds 1; sid:9000001; rev:1;)",
    'alert tcp any any -> any any (msg:"many SYNs of one sender"; flags:S; '
    "threshold:type both, track by_src, count 100, seconds 5; sid:9000002; rev:1;)",
    'alert udp any any -> any any (msg:"UDP flood"; '
    "threshold:type both, track by_src, count 1000, seconds 1; sid:9000003; rev:1;)",
)


def missing() -> str:
    """Return what this machine lacks; "" if it has Suricata."""
    if shutil.which("suricata") is None:
        return "not installed: suricata; to install: apt-get install suricata (Debian backports)"
    if not SETTINGS.is_file():
        return f"suricata has no {SETTINGS}: apt-get install --reinstall suricata"
    return ""


def about() -> str:
    """Return what is compared: its version, and what it was given."""
    done = subprocess.run(["suricata", "-V"], capture_output=True, text=True, check=False)
    found = re.search(r"version (\S+)", done.stdout)
    return (
        f"Suricata {found[1] if found else 'of unknown version'}, one thread: settings and rules "
        f"of this machine and {len(_OUR_RULES)} rules of ours; a ring of {RING_MIB} MiB, only "
        "alerts written, exception-policy: ignore; its counts are up to "
        f"{LAG_S:g} s old, so that it may be so far behind without losing"
    )


def command(way: Way, interface: str, place: Path) -> list[str]:
    """Write its settings into a folder; return the words that start it."""
    rules = place / "ours.rules"
    rules.write_text("\n".join(_OUR_RULES) + "\n")
    settings = place / "suricata.yaml"
    settings.write_text(_settings(interface, place))
    words = ["suricata", "-c", str(settings), "-s", str(rules), "-l", str(place)]
    words += ["--runmode", "workers"]
    return [*words, *(["-q", str(QUEUE)] if way == "nfqueue" else [f"--af-packet={interface}"])]


def _settings(interface: str, place: Path) -> str:
    """Return the machine's own settings, with others where they are named again."""
    return f"""%YAML 1.1
---
include: {SETTINGS}
stats:
  enabled: yes
  interval: 1
unix-command:
  enabled: yes
  filename: {place / "command"}
outputs:
  - fast:
      enabled: yes
      filename: fast.log
exception-policy: ignore
af-packet:
  - interface: {interface}
    threads: 1
    cluster-id: 99
    cluster-type: cluster_flow
    use-mmap: yes
    tpacket-v3: yes
    block-size: 262144
    ring-size: {RING_MIB * (1 << 20) // _FRAME_BYTES}
nfq:
  mode: accept
  batchcount: 20
  fail-open: no
"""


class Asked:
    """Suricata's command socket: JSON lines, after a greeting (its documentation, Interacting via
    Unix Socket)."""

    def __init__(self, place: Path, way: Way, *, deadline_s: float) -> None:
        """Raises LabError: it does not answer."""
        self._way = way
        self._rest = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(deadline_s)
        try:
            self._socket.connect(str(place / "command"))
        except OSError as error:
            self._socket.close()
            raise LabError(f"Suricata's command socket: {error.strerror}") from error
        self._ask({"version": "0.2"})

    def counters(self) -> dict[str, int]:
        """Return its totals; `judged` among them. They are old, by up to `LAG_S`."""
        return totals(self._ask({"command": "dump-counters"}).get("message"), self._way)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _ask(self, order: dict[str, str]) -> dict[str, Any]:
        try:
            self._socket.sendall(json.dumps(order).encode() + b"\n")
            while b"\n" not in self._rest:
                got = self._socket.recv(65_536)
                if not got or len(self._rest) > _ANSWER_BYTES:
                    raise LabError("Suricata has closed its command socket, or says too much")
                self._rest += got
        except OSError as error:
            raise LabError(f"Suricata does not answer: {error}") from error
        line, _, self._rest = self._rest.partition(b"\n")
        said = json.loads(line)
        if isinstance(said, dict) and said.get("message") == _TOO_EARLY:
            return {}
        if not isinstance(said, dict) or said.get("return") != "OK":
            raise LabError(f"Suricata refuses {order}: {line[:200].decode(errors='replace')}")
        return said


def totals(told: Any, way: Way) -> dict[str, int]:
    """Return Suricata's counters (groups of numbers by name) as the benchmark's.

    What came through the decoder is judged; in a queue, what has its verdict."""

    def of(group: str, *names: str) -> int:
        there = told.get(group, {}) if isinstance(told, dict) else {}
        return sum(int(there.get(name, 0)) for name in names)

    judged = of("decoder", "pkts")
    if way == "nfqueue":
        judged = of("ips", "accepted", "blocked", "rejected", "replaced")
    return {
        "judged": judged,
        "kernel_drops": of("capture", "kernel_drops"),
        "malformed": of("decoder", "invalid"),
        "flow_emergencies": of("flow", "emerg_mode_entered"),
        "flows_refused": of("flow", "memcap") + of("tcp", "ssn_memcap_drop"),
    }
