"""Real hosts and a rate in, one step out: hping3 or trafgen there, counters before and after.

What is sent is addressed to the inventory's sink and to nobody else. Counted are the sink's
interface, the generator's own, the gateway's totals (`ids-appliance status`) and its /proc. The
mode is switched by `ids-appliance mode`, and what it was before comes back at the end, also after
Ctrl-C. What the two profiles offer: `paper` as published (hping3 TCP SYNs, 60 s a rate), `own` by
trafgen with the gateway's window opened by hand.
"""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

from ids_appliance.bench.inventory import Host, Inventory
from ids_appliance.bench.modes import Mode
from ids_appliance.bench.remote import Transport
from ids_appliance.bench.sender import Sent
from ids_appliance.bench.steps import Step, Used
from ids_appliance.errors import LabError

MODES: Final = ("gateway-only", "offloaded")
HPING3_PPS: Final = 10_000.0
"""About what one hping3 sends; above it trafgen has to."""
PORT: Final = 80
ZEEK: Final = "ids-appliance-zeek"
"""Its unit, as deployed; in profile `paper` it is stopped while the gateway judges alone."""
SETTLE_S: Final = 2
_MARK: Final = "----"
_CLOCK: Final = "echo @$(date +%s%N)"
_USER_HZ: Final = 100  # proc(5), on every architecture that Linux has today


@dataclass(frozen=True, slots=True)
class Offered:
    """What a generator was told to send, and how long that took it."""

    pps: float
    packets: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Look:
    """Totals of the three hosts at one time."""

    arrived: int
    sent: int
    judged: int
    lost: int
    cpu_ticks: float
    """Of the gateway's process, in USER_HZ."""
    busy: float
    """Share of all cores' time so far that was not idle, as (busy, total) ticks."""
    total: float
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
            (hosts.generator, ("trafgen", *(["hping3"] if self._profile == "paper" else []))),
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

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Leave the gateway in the mode that it had, and its Zeek as it was, whatever happens
        inside."""
        before = str(self._status()["mode"])
        self._zeek = self._profile == "paper" and self._zeek_runs()
        try:
            yield
        finally:
            self._transport.run(self._hosts.gateway, ["ids-appliance", "mode", before])
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
        """Offer SYNs to the sink at a rate for so long, and count. Raises LabError."""
        self.switch(mode.name)
        if self._profile != "paper":
            # The window stays open for the whole step, whatever the rules think of it.
            self._transport.run(self._hosts.gateway, ["ids-appliance", "window", "open"])
        before = self._look()
        words = ["sh", "-ec", f"{_CLOCK}; {self._sender(pps, seconds)}; {_CLOCK}"]
        said = self._transport.run(self._hosts.generator, words, limit_s=3 * seconds + 30)
        self._transport.run(self._hosts.sink, ["sleep", str(SETTLE_S)])
        offered = Offered(pps, max(1, round(pps * seconds)), took_s(said))
        return step((mode.name, mix), offered, before=before, after=self._look())

    def _sender(self, pps: float, seconds: float) -> str:
        """Return what the generator's shell is to do between two looks at its clock."""
        sink, generator = self._hosts.sink, self._hosts.generator
        n = max(1, round(pps * seconds))
        if self._profile == "paper" and pps <= HPING3_PPS:
            words = ["hping3", "-q", "-n", "-S", "-p", str(PORT), "-I", generator.interface]
            words += ["-i", f"u{max(1, round(1e6 / pps))}", "-c", str(n), sink.address]
            # It ends with 1 where nobody has answered.
            return f"{shlex.join(words)} || test $? -eq 1"
        packet = (
            f"{{ eth(da=$hop, sa=$mac), ipv4(ttl=64, id=drnd(), sa={generator.address}, "
            f"da={sink.address}), tcp(sp=drnd(), dp={PORT}, seq=drnd(), win=512, syn) }}"
        )
        # trafgen knows no routes: the way out is looked up, and met once so that its MAC is known.
        return (
            f"dev={shlex.quote(generator.interface)}; "
            f"via=$(ip -4 route get {sink.address} | sed -n 's/.* via \\([0-9.]*\\).*/\\1/p'); "
            f'to="${{via:-{sink.address}}}"; ping -c 1 -W 2 "$to" >/dev/null || true; '
            'hop=$(ip neigh show "$to" dev "$dev" | sed -n "s/.*lladdr \\([0-9a-f:]*\\).*/\\1/p"); '
            'test -n "$hop" || { echo "no way to the sink" >&2; exit 1; }; '
            'mac=$(cat "/sys/class/net/$dev/address"); file=$(mktemp); trap "rm -f $file" EXIT; '
            f'echo "{packet}" > "$file"; '
            f'{_CLOCK}; trafgen -c "$file" -o "$dev" -P 1 -C -t {max(1, round(1e6 / pps))}us -n {n}'
        )

    def _look(self) -> Look:
        run, hosts = self._transport.run, self._hosts
        counters = self._status()
        pid = int(counters["pid"])
        files = [f"/proc/{pid}/stat", f"/proc/{pid}/statm", "/proc/stat", "/proc/meminfo"]
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


def look(text: str, counters: dict[str, int], *, arrived: int, sent: int) -> Look:
    """Return what the gateway's /proc files, one after the other, and its counters say.

    Raises LabError."""
    try:
        stat, statm, cpu, memory = text.split(f"{_MARK}\n")
        own = stat.rpartition(")")[2].split()
        ticks = [int(word) for word in cpu.splitlines()[0].split()[1:9]]
        told = dict(line.split(":", 1) for line in memory.splitlines() if ":" in line)
        free, whole = (int(told[key].split()[0]) for key in ("MemAvailable", "MemTotal"))
        return Look(
            arrived=arrived,
            sent=sent,
            judged=counters["judged"],
            lost=counters["shed"] + counters["unanswered"] + counters["kernel_drops"],
            cpu_ticks=int(own[11]) + int(own[12]),
            busy=sum(ticks) - ticks[3] - ticks[4],
            total=sum(ticks),
            resident_mib=int(statm.split()[1]) * 4096 / (1 << 20),
            memory_percent=100 * (1 - free / whole),
        )
    except (ValueError, IndexError, KeyError) as error:
        raise LabError(f"what the gateway says about itself makes no sense: {error!r}") from error


def took_s(said: str) -> float:
    """Return the time between the last two looks at a generator's clock. Raises LabError."""
    times = [line[1:] for line in said.splitlines() if line.startswith("@")]
    try:
        took = (int(times[-1]) - int(times[-2])) / 1e9
    except (ValueError, IndexError) as error:
        raise LabError("the generator does not say how long it has sent") from error
    return max(took, 1e-3)


def step(of: tuple[str, str], offered: Offered, *, before: Look, after: Look) -> Step:
    """Return what has happened between two looks. of: mode and mix.

    Other traffic of the hosts is in the counters too: no more is sent, judged or has arrived than
    was to be sent, and what the gateway says that it lost is lost."""
    packets = min(offered.packets, after.sent - before.sent)
    lost = after.lost - before.lost
    total = max(1.0, after.total - before.total)
    cpu_percent = 100 * (after.cpu_ticks - before.cpu_ticks) / _USER_HZ / offered.seconds
    sent = Sent(offered.pps, offered.seconds, packets, 0, offered.packets - packets, 0)
    return Step(
        *of,
        sent,
        min(packets, after.arrived - before.arrived),
        min(packets - lost, after.judged - before.judged),
        {"gateway": Used(cpu_percent, after.resident_mib)},
        machine_percent=100 * (after.busy - before.busy) / total,
        counters={"lost": lost, "memory_percent": round(after.memory_percent)},
    )
