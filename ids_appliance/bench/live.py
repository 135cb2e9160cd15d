"""Real hosts and a rate in, one step out: paced SYNs there, counters before and after.

What is sent is addressed to the inventory's sink and to nobody else. Counted are the sink's
interface, the generator's own, the gateway's totals (`ids-appliance status`) and its /proc. The
mode is switched by `ids-appliance mode`, and what it was before comes back at the end, also after
Ctrl-C. The profiles: `own`, the window is open and every packet has to be judged; `paper`, as
published, the rules open it: what comes before they do has to be screened, and is no loss.
"""

import ipaddress
import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from ids_appliance.bench import live_sender
from ids_appliance.bench.inventory import Host, Inventory
from ids_appliance.bench.modes import Mode
from ids_appliance.bench.remote import Transport
from ids_appliance.bench.sender import Sent
from ids_appliance.bench.steps import Step, Used
from ids_appliance.errors import LabError

MODES: Final = ("gateway-only", "offloaded")
PORT: Final = 80
SENDER: Final = Path(live_sender.__file__)
ZEEK: Final = "ids-appliance-zeek"
"""Its unit, as deployed; in profile `paper` it is stopped while the gateway judges alone."""
SETTLE_S: Final = 2
CLOSED: Final = 1e-3
"""Share of a step's packets that may come while the window is closed, where it is to be open."""
_MARK: Final = "----"
_USER_HZ: Final = 100  # proc(5), on every architecture that Linux has today


@dataclass(frozen=True, slots=True)
class Look:
    """Totals of the three hosts at one time."""

    arrived: int
    sent: int
    judged: int
    screened: int
    """Seen while the window was closed."""
    lost: int
    cpu_ticks: float
    """Of the gateway's process, in USER_HZ."""
    busy: float
    """Ticks of all cores that were not idle."""
    cores: int
    resident_mib: float
    memory_percent: float
    """Of the whole gateway: 1 - MemAvailable / MemTotal."""


class Live:
    """Trials (plan.py) on real hosts."""

    def __init__(self, hosts: Inventory, transport: Transport, *, profile: str = "own") -> None:
        self._hosts = hosts
        self._transport = transport
        self._profile = profile
        self._zeek = False

    def check(self) -> dict[str, Any]:
        """Return the gateway's status, once every host can do its part. Raises LabError."""
        run, hosts = self._transport.run, self._hosts
        for host, tools in (
            (hosts.generator, ("python3", "ip", "ping")),
            (hosts.gateway, ("ids-appliance",)),
            (hosts.sink, ()),
        ):
            for tool in ("cat", "timeout", *tools):
                try:
                    run(host, ["sh", "-c", f"command -v {shlex.quote(tool)}"])
                except LabError as error:
                    raise LabError(f"{host.role} ({host.ssh}) has no {tool}: {error}") from error
        for host in (hosts.generator, hosts.sink):
            run(host, ["cat", f"/sys/class/net/{host.interface}/statistics/rx_packets"])
        status = self._status()
        if status.get("mode") not in MODES:
            raise LabError(
                f"the gateway's status names no mode that is known: {status.get('mode')}"
            )
        if status.get("enforcing") and not self._allowed(hosts.generator.address):
            raise LabError(
                "the gateway enforces, and would cut the generator off: `ids-appliance allow add "
                f"{hosts.generator.address}` there first, and `allow remove` afterwards"
            )
        if (
            hosts.sink.address
            not in run(hosts.sink, ["ip", "-4", "-o", "addr", "show"]).replace("/", " ").split()
        ):
            raise LabError(
                f"the sink does not have {hosts.sink.address}: nothing is sent to an address that "
                "is not its own"
            )
        return status

    def _status(self) -> dict[str, Any]:
        words = ["ids-appliance", "status", "--format", "json"]
        try:
            status: dict[str, Any] = json.loads(self._transport.run(self._hosts.gateway, words))
        except ValueError as error:
            raise LabError("the gateway's status makes no sense") from error
        return status

    def _allowed(self, address: str) -> bool:
        words = ["ids-appliance", "allow", "list", "--format", "json"]
        try:
            listed = json.loads(self._transport.run(self._hosts.gateway, words))
            return any(covers(str(entry["text"]), address) for entry in listed["entries"])
        except (ValueError, KeyError, TypeError) as error:
            raise LabError("the gateway's list of the allowed makes no sense") from error

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Leave the gateway in the mode that it had, and its Zeek as it was, whatever happens
        inside."""
        before = str(self._status()["mode"])
        self._zeek = self._profile == "paper" and self._zeek_runs()
        try:
            yield
        finally:
            try:
                self._transport.run(self._hosts.gateway, ["ids-appliance", "mode", before])
            finally:
                if self._zeek and not self._zeek_runs():
                    self._transport.run(self._hosts.gateway, ["systemctl", "start", ZEEK])

    def switch(self, mode: str) -> None:
        """Let the gateway judge in a mode; published, the one without Zeek. Raises LabError."""
        run, gateway = self._transport.run, self._hosts.gateway
        run(gateway, ["ids-appliance", "mode", mode])
        if self._zeek:
            run(gateway, ["systemctl", "stop" if mode == "gateway-only" else "start", ZEEK])

    def _zeek_runs(self) -> bool:
        words = ["sh", "-c", f"systemctl is-active {ZEEK} || true"]
        return self._transport.run(self._hosts.gateway, words).strip() == "active"

    def run(self, mode: Mode, mix: str, pps: float, seconds: float) -> Step:
        """Offer SYNs to the sink at a rate for so long, and count. Raises LabError: also where the
        window has closed under way, so that packets were not to be judged."""
        own = self._profile != "paper"
        self.switch(mode.name)
        if own:
            self._transport.run(self._hosts.gateway, ["ids-appliance", "window", "open"])
        before = self._look()
        words = ["sh", "-ec", self._sender(pps, seconds)]
        said = self._transport.run(self._hosts.generator, words, limit_s=3 * seconds + 30)
        self._transport.run(self._hosts.sink, ["sleep", str(SETTLE_S)])
        sent, after = sent_of(said, pps), self._look()
        unseen = after.screened - before.screened
        if own and unseen > CLOSED * sent.packets:
            raise LabError(
                f"the gateway's window was closed for {unseen:,} of {sent.packets:,} packets: give "
                'it trigger.kind = "always" while it is measured, or take --profile paper'
            )
        return step((mode.name, mix), sent, before=before, after=after, own=own)

    def _sender(self, pps: float, seconds: float) -> str:
        """Return what the generator's shell is to do."""
        sink, generator = self._hosts.sink, self._hosts.generator
        words = ["python3", "-c", SENDER.read_text(encoding="utf-8")]
        ends = [generator.address, sink.address, str(PORT), f"{pps:.6g}", f"{seconds:g}"]
        # Frames know no routes: the way out is looked up, and met once so that its MAC is known.
        return (
            f"dev={shlex.quote(generator.interface)}; "
            f"via=$(ip -4 route get {sink.address} | sed -n 's/.* via \\([0-9.]*\\).*/\\1/p'); "
            f'to="${{via:-{sink.address}}}"; ping -c 1 -W 2 "$to" >/dev/null || true; '
            'hop=$(ip neigh show "$to" dev "$dev" | sed -n "s/.*lladdr \\([0-9a-f:]*\\).*/\\1/p"); '
            'test -n "$hop" || { echo "no way to the sink" >&2; exit 1; }; '
            f'exec {shlex.join(words)} "$dev" "$hop" {shlex.join(ends)}'
        )

    def _look(self) -> Look:
        run, hosts = self._transport.run, self._hosts
        counters = self._status()
        pid = int(counters["pid"])
        files = [f"/proc/{pid}/stat", f"/proc/{pid}/status", "/proc/stat", "/proc/meminfo"]
        text = run(hosts.gateway, ["sh", "-c", f"; echo {_MARK}; ".join(f"cat {f}" for f in files)])
        return look(
            text,
            counters["counters"],
            arrived=self._packets(hosts.sink, "rx"),
            sent=self._packets(hosts.generator, "tx"),
        )

    def _packets(self, host: Host, way: Literal["rx", "tx"]) -> int:
        file = f"/sys/class/net/{host.interface}/statistics/{way}_packets"
        return int(self._transport.run(host, ["cat", file]))


def covers(entry: str, address: str) -> bool:
    """Return whether an entry of the list of the allowed holds for an address."""
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(entry)
    except ValueError:
        return False  # a MAC


def look(text: str, counters: dict[str, int], *, arrived: int, sent: int) -> Look:
    """Return what the gateway's /proc files, one after the other, and its counters say.

    Raises LabError."""
    try:
        stat, own_status, cpu, memory = text.split(f"{_MARK}\n")
        own = stat.rpartition(")")[2].split()
        rows = [line.split() for line in cpu.splitlines() if line.startswith("cpu")]
        ticks = [int(word) for word in rows[0][1:9]]
        told = dict(
            line.split(":", 1) for line in (own_status + memory).splitlines() if ":" in line
        )
        # Kilobytes, whatever a page is: 16 KiB on some kernels of the Raspberry Pi 5.
        resident, free, whole = (
            int(told[key].split()[0]) for key in ("VmRSS", "MemAvailable", "MemTotal")
        )
        return Look(
            arrived=arrived,
            sent=sent,
            judged=counters["judged"],
            screened=counters["screened"],
            lost=counters["shed"] + counters["unanswered"] + counters["kernel_drops"],
            cpu_ticks=int(own[11]) + int(own[12]),
            busy=sum(ticks) - ticks[3] - ticks[4],
            cores=max(1, len(rows) - 1),
            resident_mib=resident / 1024,
            memory_percent=100 * (1 - free / whole),
        )
    except (ValueError, IndexError, KeyError) as error:
        raise LabError(f"what the gateway says about itself makes no sense: {error!r}") from error


def sent_of(said: str, pps: float) -> Sent:
    """Return what a generator says that it has sent. Raises LabError."""
    try:
        told = json.loads(said.splitlines()[-1])
        packets, refused, late = (int(told[name]) for name in ("packets", "refused", "given_up"))
        return Sent(pps, max(float(told["seconds"]), 1e-3), packets, refused, late, 0)
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise LabError("the generator does not say what it has sent") from error


def step(of: tuple[str, str], said: Sent, *, before: Look, after: Look, own: bool = True) -> Step:
    """Return what has happened between two looks. of: mode and mix. own: whether what was screened
    only, because the window was closed, counts as lost.

    Other traffic of the hosts is in the counters too: no more is sent, judged or has arrived than
    was sent, and what the gateway says that it lost is lost."""
    packets = min(said.packets, after.sent - before.sent)
    sent = replace(said, packets=packets, given_up=said.given_up + said.packets - packets)
    lost, seconds = after.lost - before.lost, said.seconds
    judged = after.judged - before.judged + (0 if own else after.screened - before.screened)
    # While packets came, as the process's own: the looks and the pause after them take longer.
    busy = (after.busy - before.busy) / _USER_HZ / after.cores / seconds
    cpu_percent = 100 * (after.cpu_ticks - before.cpu_ticks) / _USER_HZ / seconds
    return Step(
        *of,
        sent,
        min(packets, after.arrived - before.arrived),
        min(packets - lost, judged),
        {"gateway": Used(cpu_percent, after.resident_mib)},
        machine_percent=min(100.0, 100 * busy),
        counters={
            "lost": lost,
            "screened": after.screened - before.screened,
            "memory_percent": round(after.memory_percent),
        },
    )
