"""Frames and times in, marks, standings and events out: the prescreener's slow twin.

Written after docs/triggers.md with dictionaries and lists that never fill up; it shares no line
with ext/screen*.pxd, which it is the oracle of. Only the tables' hard caps are not in it.
"""

import ipaddress
from dataclasses import dataclass, field
from typing import Any, Final

from tests.reference import packet

S: Final = 1_000_000_000
LINGER, IDLE, STANDING, BACK, ALIVE, LEASE = 3 * S, 60 * S, 3600 * S, 10 * S, 60 * S, 3600 * S
SOON = S // 2
ITEMS, PORTS, HEAVY, SLOTS = 64, 16, 4, 15
UNPARSABLE, OWN, ECHO, WAITING, CONTAINED = 1, 2, 3, 6, 8
ANSWER, PROVEN, CALLED, SUSPECT = 1, 2, 4, 8
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
TCP, UDP = packet.TCP, packet.UDP
ECHO_KINDS: Final = {8: "echo", 0: "reply", 128: "echo", 129: "reply"}

Who = tuple[int, int, int, bytes, bytes]
"""(side, family, ifindex, MAC, address): the canonical sender."""
End = tuple[bytes, int]


def record(who: Who) -> bytes:
    side, family, ifindex, mac, address = who
    head = ifindex.to_bytes(4, "little") + bytes([side, family])
    return head + mac.ljust(6, b"\0") + address.ljust(16, b"\0")


def canonical(side: int, ifindex: int, mac: bytes | None, address: bytes) -> Who | None:
    if side == 0 and mac and any(mac):
        return (0, 0, ifindex, mac, b"")
    if not any(address):
        return None
    family = 4 if len(address) == 4 else 6
    if side == 1 and family == 6:
        address = address[:8] + bytes(8)
    return (side, family, 0 if side == 1 else ifindex, b"", address)


def named(who: Who) -> str:
    side, family, ifindex, mac, address = who
    text = mac.hex(":") if family == 0 else str(ipaddress.ip_address(address))
    if side:
        return text + "/64" * (family == 6)
    return f"{text}%{ifindex}" if ifindex else text


def place(end: End) -> str:
    address = ipaddress.ip_address(end[0])
    return f"[{address}]:{end[1]}" if address.version == 6 else f"{address}:{end[1]}"


@dataclass
class Look:
    """What a frame says."""

    kind: str = ""
    proto: int = 0
    source: bytes = b""
    target: bytes = b""
    sport: int = 0
    dport: int = 0
    flags: int = 0
    seq: int = 0
    ack: int = 0
    payload: int = 0
    group: bool = False
    quoted: tuple[int, End, End] | None = None
    unreachable: bool = False
    op: int = 0
    sha: bytes = b""
    body: bytes = b""

    @property
    def ends(self) -> tuple[int, End, End]:
        return (self.proto, (self.source, self.sport), (self.target, self.dport))


def upper(p: bytes) -> tuple[int, bytes] | None:
    """Return protocol and layer-4 bytes, None where there are none to read."""
    if len(p) < 20:
        return None
    if p[0] >> 4 == 4:
        header, total = (p[0] & 15) * 4, int.from_bytes(p[2:4], "big") or len(p)
        p = p[:total]
        if header < 20 or len(p) < header or int.from_bytes(p[6:8], "big") & 0x1FFF:
            return None
        return p[9], p[header:]
    if len(p) < 40:
        return None
    p, proto, at = p[: 40 + int.from_bytes(p[4:6], "big")], p[6], 40
    while proto in packet.EXTENSIONS:
        if len(p) < at + 8:
            return None
        size = {44: 8, 51: (p[at + 1] + 2) * 4}.get(proto, (p[at + 1] + 1) * 8)
        if len(p) < at + size or (proto == 44 and int.from_bytes(p[at + 2 : at + 4], "big") >> 3):
            return None
        proto, at = p[at], at + size
    return proto, p[at:]


def all_there(p: bytes) -> bool:
    """Say whether the capture holds as much as the packet says it has."""
    start, head = (2, 0) if p[0] >> 4 == 4 else (4, 40)
    length = int.from_bytes(p[start : start + 2], "big")
    return 0 < length <= len(p) - head


def addresses(p: bytes) -> tuple[bytes, bytes]:
    return (p[12:16], p[16:20]) if p[0] >> 4 == 4 else (p[8:24], p[24:40])


def look_at(frame: bytes, linktype: int, direction: int) -> Look:
    kind, p = packet.layer3(frame, linktype, set())
    if kind == packet.ARP:
        if len(p) < 28 or p[:6] != bytes([0, 1, 8, 0, 6, 4]):
            return Look()
        op = int.from_bytes(p[6:8], "big")
        ends = {"source": p[14:18], "target": p[24:28], "sport": op == 1, "dport": op == 2}
        return Look("arp", -1, op=op, sha=p[8:14], **ends)  # type: ignore[arg-type]
    found = upper(p)
    if found is None:
        return Look()
    proto, t = found
    source, target = addresses(p)
    group = target[0] == 0xFF if len(target) == 16 else target[0] >= 224
    _, direction = packet.link_sender(frame, linktype, direction)
    group = group or (linktype == 1 and bool(frame[0] & 1)) or direction in (1, 2)
    look = Look("", proto, source, target, group=group)
    row = packet.record(kind, p, False, set())
    assert row is not None
    if proto == TCP and len(t) >= 14:
        look.kind, look.flags, look.payload = "tcp", t[13] & 63, row[7]
        look.sport, look.dport = int.from_bytes(t[:2], "big"), int.from_bytes(t[2:4], "big")
        look.seq, look.ack = int.from_bytes(t[4:8], "big"), int.from_bytes(t[8:12], "big")
    elif proto == TCP:
        look.kind = "stub" if all_there(p) else ""
    elif proto == UDP and len(t) >= 8:
        look.kind, look.payload, look.body = "udp", row[7], t[8:]
        look.sport, look.dport = int.from_bytes(t[:2], "big"), int.from_bytes(t[2:4], "big")
    elif proto == {4: 1, 6: 58}[p[0] >> 4]:
        icmp(look, t, p[0] >> 4)
    return look


def icmp(look: Look, t: bytes, version: int) -> None:
    look.kind = "icmp"
    if len(t) < 8:
        return
    kinds = (8, 0) if version == 4 else (128, 129)
    if t[0] in kinds:
        look.kind = ECHO_KINDS[t[0]]
        look.sport = look.dport = int.from_bytes(t[4:6], "big")
        return
    if t[0] not in ((3, 11) if version == 4 else (1, 2, 3)):
        return
    look.unreachable = t[0] == (3 if version == 4 else 1)
    q = t[8:]
    found = upper(q) if q and q[0] >> 4 == version else None
    if found is None or len(found[1]) < 8:
        return
    proto, inner = found
    source, target = addresses(q)
    if proto in (TCP, UDP):
        ports = int.from_bytes(inner[:2], "big"), int.from_bytes(inner[2:4], "big")
    elif proto in (1, 58):
        ports = (int.from_bytes(inner[4:6], "big"),) * 2
    else:
        return
    look.kind, look.quoted = "error", (proto, (source, ports[0]), (target, ports[1]))


@dataclass(eq=False)
class Flow:
    """One exchange."""

    proto: int
    began: End
    other: End
    who: Who | None
    stage: str
    since: int
    last: int
    silent: bool = False
    contained: bool = False
    sampled: bool = False
    flood: bool = False
    probe: bool = False
    late: bool = False
    adopted: bool = False
    answered: bool = False
    completed: bool = False
    resolved: bool = False
    reset: bool = False
    sent: bool = False
    fins: set[bool] = field(default_factory=set)
    isn: int = 0
    risn: int = 0
    extra: int = 0
    packets: int = 1


@dataclass
class Tally:
    """Counts of one key in one window."""

    first: int
    items: dict[Any, bool] = field(default_factory=dict)
    ports: dict[Any, int] = field(default_factory=dict)
    heavy: dict[Who, int] = field(default_factory=dict)
    total: int = 0
    bad: int = 0
    part: int = 0
    part_bad: int = 0
    beyond: int = 0
    beyond_bad: int = 0
    beyond_sure: int = 0
    sure: set[Any] = field(default_factory=set)


@dataclass
class Binding:
    """Which MAC has an address."""

    mac: bytes
    ifindex: int
    source: str
    last: int
    lease: int = LEASE
    rival: bytes | None = None
    owner_after: int = 0
    claimed: int = 0
    culprit: Who | None = None
    latest: bytes = b""
    window: int = -1
    changes: int = 0
    firm: bool = True
    disputed: bool = False


@dataclass
class By:
    """Who sent the frame at hand."""

    who: Who | None
    own: bool
    contained: bool
    grant: int = 0
    shown: bool = False

    @property
    def counts(self) -> bool:
        return not self.own and not self.contained


class Screen:
    """The twin: `frame` for each frame, `expire` between them, `events` collected."""

    def __init__(
        self, settings: dict[str, float], bindings: list[tuple[bytes, bytes]] | None = None
    ) -> None:
        self.set = settings
        self.flows: dict[Any, Flow] = {}
        self.pending: list[Flow] = []
        self.open: list[Flow] = []
        self.tables: dict[str, dict[Any, Tally]] = {}
        self.windows: dict[str, int] = {}
        self.holds: dict[Any, int] = {}
        self.peers: dict[Who, tuple[int, int]] = {}
        self.devices: dict[Who, tuple[int, bytes]] = {}
        self.suspects: set[Who] = set()
        self.contained: set[Who] = set()
        self.slots: list[tuple[bytes, int]] = []
        self.bound: dict[bytes, Binding] = {}
        self.clock = -1
        self.window = -1
        self.sampling = self.sampled = False
        self.sure_from = 0
        self.index = 0
        self.events: list[tuple[Any, ...]] = []
        for address, mac in bindings or []:
            self.bound[address] = Binding(mac, 0, "configured", -1, latest=mac)

    # --- time ---

    def set_clock(self, t: int) -> None:
        self.clock = t
        window = t // self.set["window_ns"]
        if window != self.window:
            self.window, self.sampled = window, self.sampling
        for name in self.tables:
            size = self.set["slow_window_ns" if name.startswith("slow") else "window_ns"]
            if self.windows.get(name) != t // size:
                self.windows[name] = t // size
                self.tables[name] = {}

    def advance(self, t: int) -> None:
        t = min(max(t, 0), 4 * 10**18)
        if self.clock < 0:
            self.set_clock(t)
            return
        if t <= self.clock:
            if t < self.clock - BACK:
                self.forget(t)
            return
        while True:
            due = [(f.since + self.set["no_answer_ns"], 0, f) for f in self.pending[:1]]
            due += [(f.since + self.set["brief_ns"], 1, f) for f in self.open[:1]]
            due = [one for one in due if one[0] <= t]
            if not due:
                break
            when, which, flow = min(due, key=lambda one: one[:2])
            self.set_clock(int(when))
            if which == 0:
                self.fail(flow)
            else:
                self.judge_open(flow)
        self.set_clock(t)

    def doubtful(self) -> bool:
        return self.clock < self.sure_from

    def uncertain(self, f: Flow) -> bool:
        return not f.reset and self.doubtful()

    def doubt(self) -> None:
        if self.clock >= 0:
            self.sure_from = self.clock + 64 * S

    def forget(self, t: int) -> None:
        self.sure_from = t + 64 * S
        self.flows, self.pending, self.open, self.holds = {}, [], [], {}
        self.tables = {name: {} for name in self.tables}
        self.peers = {who: (self.standing(who), t) for who in self.peers}
        self.devices = {who: (t, shown) for who, (_, shown) in self.devices.items()}
        for b in self.bound.values():
            b.last, b.owner_after, b.window, b.culprit = t, 0, -1, None
        self.set_clock(t)

    def expire(self, now: int) -> None:
        self.index = 0
        if self.clock >= 0 and now > self.clock:
            self.advance(now)

    # --- rules ---

    def tally(self, table: str, setting: str, key: Any) -> Tally | None:
        if not self.set[setting]:
            return None
        entries = self.tables.get(table)
        if entries is None:
            entries = self.tables[table] = {}
            size = self.set["slow_window_ns" if table.startswith("slow") else "window_ns"]
            self.windows[table] = self.clock // size
        return entries.setdefault(key, Tally(self.clock))

    def fire(
        self,
        rule: str,
        key: str,
        who: Who | None,
        detail: str,
        *,
        decisive: bool = False,
        loud: bool = False,
    ) -> bool:
        """`loud`: has a hold-down of its own, so that what is decisive is told."""
        if self.holds.get((rule, key, loud), 0) > self.clock:
            return False
        self.holds[rule, key, loud] = self.clock + int(self.set["hold_down_ns"])
        if who is not None and who[0] != 2:
            self.suspects.add(who)
        sender = None if who is None else record(who)
        self.events.append((rule, key, self.clock, self.index, sender, detail, decisive))
        return True

    def span(self, tally: Tally) -> str:
        return f"{(self.clock - tally.first) / 1e9:.1f} s"

    def whole(self, f: Flow) -> bool:
        return f.proto == TCP and not f.late and not f.answered and not self.uncertain(f)

    def count_port(self, f: Flow, failed: bool) -> None:
        if not self.counted(f):
            return
        assert f.who is not None
        host = str(ipaddress.ip_address(f.other[0]))
        for table, setting, alone, rule in (
            ("ports", "scan_ports", "scan_alone", "port_scan"),
            ("slow_ports", "slow_ports", "slow_ports_alone", "slow_scan"),
        ):
            if table == "slow_ports" and failed and self.uncertain(f):
                continue
            t = self.tally(table, setting, (f.who, f.other[0]))
            if t is None:
                continue
            item = (f.proto, f.other[1])
            if item in t.items or len(t.items) < ITEMS:
                t.items[item] = t.items.get(item, False) or not failed
                t.sure |= {item} if failed and self.whole(f) else set()
            else:
                t.beyond_sure += failed and self.whole(f)
                t.beyond += 1
                t.beyond_bad += failed
            ports = len(t.items) + t.beyond
            bad = sum(not okay for okay in t.items.values()) + t.beyond_bad
            if len(t.items) >= self.set[setting] and bad >= self.set["scan_failed_ratio"] * ports:
                key = f"{named(f.who)} -> {host}"
                sure = sum(not t.items[one] for one in t.sure) + t.beyond_sure
                if 0 < self.set[alone] <= sure:
                    detail = f"{sure} of {ports} ports of {host} failed in {self.span(t)}"
                    self.fire(rule, key, f.who, detail, decisive=True, loud=True)
                    continue
                detail = f"{ports} ports of {host} in {self.span(t)}, {bad} failed"
                self.fire(rule, key, f.who, detail)

    def resolve(self, f: Flow, bad: bool) -> None:
        f.resolved = True
        if not self.counted(f):
            return
        assert f.who is not None
        for table, setting, alone, rule in (
            ("hosts", "mirai_hosts", "mirai_alone", "mirai"),
            ("slow_hosts", "slow_hosts", "slow_hosts_alone", "slow_scan"),
        ):
            if table == "slow_hosts" and bad and self.uncertain(f):
                continue
            t = self.tally(table, setting, f.who)
            if t is None:
                continue
            if len(t.items) < ITEMS:
                t.items[f.other[0]] = True
            if bad and self.whole(f) and f.other[0] in t.items:
                t.sure.add(f.other[0])
            elif bad and self.whole(f):
                t.beyond_sure += 1
            port = (f.proto, f.other[1])
            if port in t.ports or len(t.ports) < PORTS:
                t.ports[port] = t.ports.get(port, 0) + 1
            t.total += 1
            t.bad += bad
            top = sum(sorted(t.ports.values())[-int(self.set["mirai_top_ports"]) :])
            if (
                len(t.items) >= self.set[setting]
                and t.bad >= self.set["mirai_failed_or_brief_ratio"] * t.total
                and top >= self.set["mirai_top_ports_ratio"] * t.total
            ):
                hosts = len(t.items)
                sure = min(len(t.sure) + t.beyond_sure, hosts)
                if 0 < self.set[alone] <= sure:
                    said = f"connections to {sure} of {hosts} hosts failed in {self.span(t)}"
                    self.fire(rule, named(f.who), f.who, said, decisive=True, loud=True)
                    continue
                said = (
                    f"attempts on {hosts} hosts in {self.span(t)}, {t.bad} of them failed or brief"
                )
                self.fire(rule, named(f.who), f.who, said)

    def counted(self, f: Flow) -> bool:
        silent = f.silent or f.flood or f.proto not in (TCP, UDP)
        return not silent and f.who not in self.contained

    def simple(
        self,
        rule: str,
        key: Any,
        text: str,
        who: Who,
        *,
        alone: str = "",
        worse: bool = True,
        setting: str = "",
    ) -> None:
        t = self.tally(setting or rule, setting or rule, key)
        if t is None:
            return
        t.total += 1
        t.bad += worse
        detail = f"{t.total} in {self.span(t)}: {text}"
        if alone and 0 < self.set[alone] <= t.bad:
            self.fire(rule, text, who, detail, decisive=True, loud=True)
        elif t.total >= self.set[setting or rule]:
            self.fire(rule, text, who, detail)

    def repeated(self, f: Flow) -> None:
        if not self.counted(f):
            return
        assert f.who is not None
        text = f"{named(f.who)} -> {place(f.other)}/tcp"
        for setting in ("repeated_connections", "slow_repeated"):
            alone = "repeated_alone" if setting[0] == "r" else "slow_repeated_alone"
            key = (f.who, f.other)
            rule = "repeated_connections"
            self.simple(rule, key, text, f.who, alone=alone, setting=setting)

    def most(self, t: Tally, who: Who | None) -> Who | None:
        """Misra and Gries with four counters; return who certainly has more than half."""
        if who is not None:
            if who in t.heavy or len(t.heavy) < HEAVY:
                t.heavy[who] = t.heavy.get(who, 0) + 1
            else:
                t.heavy = {w: n - 1 for w, n in t.heavy.items() if n > 1}
        return next((w for w, n in t.heavy.items() if 2 * n > t.total), None)

    def victim(self, rule: str, look: Look, by: By) -> None:
        doubted = rule == "unsolicited_answers" and self.doubtful()
        t = self.tally(rule, rule, look.target) if by.counts and not doubted else None
        if t is None:
            return
        t.total += 1
        most = self.most(t, by.who)
        text = str(ipaddress.ip_address(look.target))
        alone = {"icmp_rate": "icmp_alone", "unsolicited_answers": "unsolicited_alone"}.get(rule)
        detail = f"{t.total} in {self.span(t)}: {text}"
        if alone and 0 < self.set[alone] <= t.total and most is not None:
            self.fire(rule, text, most, detail, decisive=True, loud=True)
        elif t.total >= self.set[rule]:
            self.fire(rule, text, most, detail)

    def fail(self, f: Flow) -> None:
        self.count_port(f, True)
        if self.counted(f) and not self.uncertain(f):
            assert f.who is not None
            text = f"{named(f.who)} -> {place(f.other)}/{'tcp' if f.proto == TCP else 'udp'}"
            key = (f.who, f.other, f.proto)
            rule = "failed_connections"
            self.simple(rule, key, text, f.who, alone="failed_alone", worse=not f.reset)
        self.resolve(f, True)
        self.move(f, "ended")

    def judge_open(self, f: Flow) -> None:
        hidden = self.sampled or f.sampled
        self.resolve(f, not hidden and f.packets <= self.set["mirai_brief_packets"])
        self.move(f, "kept")
        if not hidden and not f.sent and self.counted(f):
            assert f.who is not None
            text = f"{named(f.who)} -> {ipaddress.ip_address(f.other[0])}"
            self.simple("idle_connections", (f.who, f.other[0]), text, f.who)

    # --- exchanges ---

    @staticmethod
    def key(ends: tuple[int, End, End]) -> Any:
        return (ends[0], *sorted(ends[1:]))

    def find(self, ends: tuple[int, End, End]) -> Flow | None:
        f = self.flows.get(self.key(ends))
        if f is None:
            return None
        over = f.stage == "ended" and f.since + LINGER <= self.clock
        over = over or (f.stage == "talk" and f.last + IDLE <= self.clock)
        if over:
            self.remove(f)
            return None
        return f

    def remove(self, f: Flow) -> None:
        self.unlist(f)
        del self.flows[self.key((f.proto, f.began, f.other))]

    def unlist(self, f: Flow) -> None:
        for flows in (self.pending, self.open):
            if f in flows:
                flows.remove(f)

    def move(self, f: Flow, stage: str) -> None:
        self.unlist(f)
        f.stage, f.since = stage, self.clock
        {"pending": self.pending, "open": self.open}.get(stage, []).append(f)

    def begin(self, ends: tuple[int, End, End], stage: str, by: By) -> Flow:
        stage = "ended" if by.contained else stage
        f = Flow(*ends, by.who, stage, self.clock, self.clock)
        f.silent = not by.counts or by.who is None
        f.contained, f.sampled = by.contained, self.sampling
        self.flows[self.key(ends)] = f
        self.move(f, stage)
        return f

    def forged(self, f: Flow, by: By) -> bool:
        return by.who is not None and by.who == f.who

    def vouch(self, f: Flow, by: By, proof: int) -> None:
        if not f.contained:
            called = (f.who is None or f.who[0] == 0) and not f.silent
            by.grant |= proof | (CALLED if called else 0)

    def answered(self, f: Flow) -> None:
        f.answered = True
        self.count_port(f, False)
        if f.proto == TCP:
            self.repeated(f)
        if f.contained:
            return
        if f.resolved:
            self.move(f, "kept" if f.proto == TCP else "talk")
        elif f.proto == TCP:
            self.move(f, "open")
        else:
            self.resolve(f, False)
            self.move(f, "talk")

    # --- frames ---

    def frame(
        self,
        data: bytes,
        linktype: int,
        direction: int,
        time: int,
        ifindex: int,
        host: packet.Host,
    ) -> tuple[int, int]:
        """Return the frame's mark and standing."""
        self.advance(time)
        judged = packet.judge(data, linktype, direction, host)
        if judged.outcome in (UNPARSABLE, ECHO):
            return judged.outcome, 0
        own = judged.outcome == OWN
        who = canonical(judged.side, ifindex, judged.mac, judged.address)
        if packet.layer3(data, linktype, set())[0] == packet.ARP and who and who[1]:
            who = None  # an address that is claimed names nobody
        by = By(who, own, not own and who in self.contained)
        look = look_at(data, linktype, direction)
        bare = look.kind == "tcp" and look.flags & (SYN | ACK | RST | FIN) == SYN
        beyond = who is not None and judged.side == 1 and not own
        if bare and beyond and who and not by.contained:
            family = 4 if len(look.target) == 4 else 6
            by.contained = (2, family, look.dport, b"", look.target) in self.contained
        if who is not None and who[0] == 0 and not own:
            before = self.devices.get(who, (0, b""))[1]
            shown = judged.address if any(judged.address) else before
            self.devices[who] = (self.clock, shown)
        standing = 0
        if look.kind == "tcp":
            standing = self.tcp(look, by, bare)
        elif look.kind == "udp":
            standing = self.udp(look, by)
            if look.sport == 67 and (who is None or who[0] == 0) and not by.contained:
                self.dhcp(look, by, ifindex)
        elif look.kind == "arp":
            mac = judged.mac if judged.mac and any(judged.mac) else look.sha
            standing = self.arp(look, by, mac, ifindex, host) | ANSWER
        elif look.kind == "stub":
            self.odd(look, by)
        elif look.kind:
            standing = self.icmp(look, by)
        if own:
            return OWN, 0
        if by.counts and judged.side == 0 and look.kind not in ("", "arp"):
            b = self.bound.get(look.source)
            if b and b.rival and b.mac == judged.mac:
                self.alive(b, ifindex, look.source)
        if who is not None:
            known = self.standing(who, by.grant)
            standing |= known if by.shown else known & ~PROVEN
            standing |= SUSPECT if who in self.suspects else 0
        return CONTAINED if by.contained else WAITING, standing

    def standing(self, who: Who, grant: int = 0) -> int:
        if who[0] != 1:
            return 0
        bits, last = self.peers.get(who, (0, self.clock))
        if last + STANDING <= self.clock:
            bits = 0
        if grant:
            self.peers[who] = (bits | grant, self.clock)
        return bits | grant

    def odd(self, look: Look, by: By) -> None:
        if by.counts and by.who is not None and not look.group:
            self.simple("impossible_flags", by.who, named(by.who), by.who, alone="flags_alone")

    def tcp(self, look: Look, by: By, bare: bool) -> int:
        if look.group:
            return 0
        if look.flags & (SYN | FIN) == SYN | FIN or not look.flags & (SYN | RST | ACK):
            self.odd(look, by)
        plain = look.flags & RST or look.flags & (SYN | ACK) == SYN | ACK
        return self.exchange(look, by, bare) | (ANSWER if plain else 0)

    def exchange(self, look: Look, by: By, bare: bool) -> int:
        f = self.find(look.ends)
        if bare:
            return self.syn(look, f, by)
        flags = look.flags
        if f is None:
            if flags & (RST | SYN):
                self.victim("unsolicited_answers", look, by)
            elif not flags & ACK or (
                look.payload == 0 and not flags & (PSH | URG) and not self.doubtful()
            ):
                f = self.begin(look.ends, "pending", by)
                f.probe, f.late = True, bool(flags & ACK)
            elif not by.contained:
                f = self.begin(look.ends, "kept", by)
                f.adopted = f.silent = f.resolved = True
            return 0
        began = f.began == (look.source, look.sport)
        if not began and self.forged(f, by):
            return 0
        f.last, f.packets = self.clock, f.packets + 1
        if f.probe:
            return self.probe(look, f, began)
        if f.adopted:
            self.close(look, f, began)
            return 0
        if began:
            f.sent = f.sent or look.payload > 0
            if not f.answered:
                return 0
            if (
                not f.completed
                and flags & (ACK | SYN | RST) == ACK
                and look.ack == (f.risn + 1) & 0xFFFFFFFF
            ):
                f.completed = True
                by.grant |= PROVEN
                t = None if f.silent else self.tally("dos", "dos_syns", (look.target, look.dport))
                if t is not None:
                    t.bad += 1
                    t.part_bad += (look.sport + look.dport) & 0x1E == 0
            by.shown = f.completed
            self.close(look, f, began)
            return 0
        if not f.answered:
            if not flags & ACK or (look.ack - f.isn - 1) & 0xFFFFFFFF > f.extra:
                return 0
            if flags & RST:
                f.reset = True
                if f.stage == "pending":
                    self.fail(f)
                return ANSWER
            if not flags & SYN:
                return 0
            f.risn = look.seq
            self.vouch(f, by, PROVEN)
            by.shown = True
            self.answered(f)
            return ANSWER
        self.vouch(f, by, PROVEN)
        by.shown = True
        if flags & SYN and not f.completed:
            f.risn = look.seq
        self.close(look, f, began)
        return ANSWER

    def probe(self, look: Look, f: Flow, began: bool) -> int:
        if began:
            return 0
        if look.flags & RST:
            f.reset = True
            if f.stage == "pending":
                self.fail(f)
            return ANSWER
        f.probe, f.adopted = False, True
        if f.stage == "pending":
            self.count_port(f, False)
            self.resolve(f, False)
            self.move(f, "kept")
        f.silent = True
        return 0

    def close(self, look: Look, f: Flow, began: bool) -> None:
        if not look.flags & (FIN | RST) or f.stage == "ended":
            return
        if f.stage == "open":
            self.resolve(f, True)
        if look.flags & RST:
            f.reset = True
        else:
            f.fins.add(began)
        if look.flags & RST or len(f.fins) == 2:
            self.move(f, "ended")
        elif f.stage == "open":
            self.move(f, "kept")

    def syn(self, look: Look, f: Flow | None, by: By) -> int:
        target = (look.target, look.dport)
        if by.counts:
            self.dos(look, by)
        again = f is not None and f.began == (look.source, look.sport)
        again = again and not (f.probe or f.adopted or f.reset)
        if again and (f.isn == look.seq or not f.answered):
            f.last, f.packets = self.clock, f.packets + 1
        else:
            if f is not None:
                self.remove(f)
            f = self.begin(look.ends, "pending", by)
            if by.counts and by.who is not None:
                self.simple("connection_rate", by.who, named(by.who), by.who)
        f.isn, f.extra = look.seq, look.payload
        if by.who and by.who[0] == 1 and by.counts and target in self.slots:
            if not self.standing(by.who) & PROVEN:
                f.flood = True
                return self.slots.index(target) + 1 << 4
        return 0

    def dos(self, look: Look, by: By) -> None:
        target = (look.target, look.dport)
        t = self.tally("dos", "dos_syns", target)
        if t is None:
            return
        t.total += 1
        t.part += (look.sport + look.dport) & 0x1E == 0
        most = self.most(t, by.who)
        syns, done = (t.part, t.part_bad) if self.sampled else (t.total, t.bad)
        if t.total < self.set["dos_syns"]:
            return
        if syns and done >= self.set["dos_handshake_ratio"] * syns:
            return
        family = 4 if len(look.target) == 4 else 6
        who = most or (2, family, look.dport, b"", look.target)
        detail = f"{t.total} SYNs to {place(target)} in {self.span(t)}, {t.bad} handshakes"
        fired = self.fire("dos", place(target), who, detail)
        if fired and most is None and target not in self.slots and len(self.slots) < SLOTS:
            self.slots.append(target)

    def udp(self, look: Look, by: By) -> int:
        self.victim("udp_rate", look, by)
        if look.group:
            if not by.contained:
                ends = (UDP, (look.source, look.sport), (bytes(len(look.source)), 0))
                f = self.flows.get(self.key(ends))
                if f is None:
                    f = self.begin(ends, "talk", by)
                    f.adopted = f.silent = f.resolved = True
                f.last = self.clock
            return 0
        f = self.find(look.ends)
        began = f is not None and f.began == (look.source, look.sport)
        if f is not None and f.reset and began:
            self.remove(f)
            f = None
        if f is None:
            zero = (bytes(len(look.target)), 0)
            asked = self.find((UDP, (look.target, look.dport), zero))
            if asked is not None:
                f = self.begin(look.ends, "talk", by)
                f.adopted = f.silent = f.resolved = True
            else:
                self.begin(look.ends, "pending", by)
                if by.counts and by.who is not None:
                    who, text = by.who, named(by.who)
                    self.simple("connection_rate", who, text, who)
                    self.simple("udp_exchanges", who, text, who, alone="udp_exchanges_alone")
            return 0
        if not began and self.forged(f, by):
            return 0
        f.last, f.packets = self.clock, f.packets + 1
        if f.adopted or began:
            return 0
        self.vouch(f, by, 0)
        if not f.answered:
            self.answered(f)
        return ANSWER

    def icmp(self, look: Look, by: By) -> int:
        if look.kind not in ("reply", "error"):
            self.victim("icmp_rate", look, by)
        if look.kind == "echo" and not look.group:
            f = self.find(look.ends)
            if f is not None and f.began != (look.source, look.sport):
                self.remove(f)
                f = None
            if f is None:
                self.begin(look.ends, "ended", by)
            else:
                self.move(f, "ended")
            if by.counts and by.who is not None:
                self.distinct("echo", "mirai_echo_hosts", look.target, by.who)
        elif look.kind == "reply":
            f = self.find(look.ends)
            if f is None or f.began == (look.source, look.sport):
                self.victim("unsolicited_answers", look, by)
            return ANSWER
        elif look.kind == "error":
            assert look.quoted is not None
            f = self.find(look.quoted)
            if f is None or look.quoted[1][0] != look.target:
                return ANSWER
            if f.began != look.quoted[1] or f.adopted:
                return ANSWER
            if look.unreachable and f.stage == "pending":
                f.reset = True
                self.fail(f)
            return ANSWER
        return 0

    def distinct(self, table: str, setting: str, item: bytes, who: Who) -> None:
        t = self.tally(table, setting, who)
        if t is None:
            return
        if len(t.items) < ITEMS:
            t.items[item] = True
        n = len(t.items)
        if n >= self.set[setting]:
            what = (
                f"ICMP echo to {n} hosts" if table == "echo" else f"ARP requests for {n} addresses"
            )
            self.fire("mirai", named(who), who, f"{what} in {self.span(t)}")

    def arp_targets(self, item: bytes, who: Who) -> None:
        self.distinct("arp", "mirai_arp_targets", item, who)
        t = self.tally("sweep", "arp_sweep", who)
        if t is None:
            return
        if len(t.items) < ITEMS:
            t.items[item] = True
        if len(t.items) >= self.set["arp_sweep"]:
            detail = f"ARP requests for {len(t.items)} addresses in {self.span(t)}"
            self.fire("arp_sweep", named(who), who, detail, decisive=True, loud=True)

    def insists(self, look: Look, who: Who) -> None:
        t = self.tally("slow_insistence", "arp_insistence", who)
        if t is None:
            return
        t.total += 1
        t.items[look.source] = True
        b = self.bound.get(look.source)
        t.bad += b is not None and (b.rival is not None or b.disputed or b.mac != look.sha)
        enough = t.total >= self.set["arp_insistence"] and self.clock - t.first >= 10 * S
        if enough and (t.bad or len(t.items) > 1):
            detail = f"{t.total} ARP replies that nobody asked for in {self.span(t)}"
            detail += f", about {len(t.items)} addresses"
            self.fire("arp_insistence", named(who), who, detail, decisive=True, loud=True)

    # --- ARP ---

    def dhcp(self, look: Look, by: By, ifindex: int) -> None:
        b = look.body
        if len(look.source) != 4 or len(b) < 240 or b[:3] != b"\x02\x01\x06":
            return
        if b[236:240] != bytes.fromhex("63825363"):
            return
        at, kind, lease = 240, 0, 0
        while at < len(b) and b[at] != 255:
            if b[at] == 0:
                at += 1
                continue
            value = b[at + 2 : at + 2 + b[at + 1]] if at + 2 <= len(b) else None
            if value is None or len(value) < b[at + 1]:
                break
            if b[at] == 53 and len(value) == 1:
                kind = value[0]
            elif b[at] == 51 and len(value) == 4:
                lease = int.from_bytes(value, "big")
            at += 2 + len(value)
        address, mac = b[16:20], b[28:34]
        if kind != 5 or not any(address):
            return
        known = self.bound.get(address)
        if known and known.source == "configured":
            return
        same = known is not None and known.mac == mac
        if known and not same and not by.own and self.holds_still(known):
            return
        if not same:
            known = self.bound[address] = Binding(mac, ifindex, "dhcp", self.clock, latest=mac)
        assert known is not None
        known.source, known.last, known.firm = "dhcp", self.clock, True
        if lease:
            known.lease = lease * S

    def holds_still(self, b: Binding) -> bool:
        return b.source == "configured" or b.last + b.lease > self.clock

    def alive(self, b: Binding, ifindex: int, address: bytes) -> None:
        b.last, b.ifindex = self.clock, b.ifindex or ifindex
        if b.rival and not b.owner_after:
            b.owner_after = self.clock
        if b.rival and b.culprit and b.claimed + SOON <= self.clock < b.claimed + ALIVE:
            who, b.culprit = b.culprit, None
            text = str(ipaddress.ip_address(address))
            detail = f"{text} is claimed by {b.rival.hex(':')}, and belongs to {b.mac.hex(':')}"
            detail += ", which still uses it"
            self.fire("arp_spoof", text, who, detail, decisive=True, loud=True)

    def arp(self, look: Look, by: By, mac: bytes, ifindex: int, host: packet.Host) -> int:
        f = self.find(look.ends)
        answer, unasked = 0, False
        if look.op == 1 and look.source != look.target:
            if f is None:
                self.begin(look.ends, "ended", by)
            else:
                self.move(f, "ended")
            if by.counts and by.who is not None:
                self.arp_targets(look.target, by.who)
        elif look.op == 2:
            unasked = f is None
            answer = 0 if unasked else ANSWER
        elif look.op != 1:
            return 0
        if not by.counts or not self.set["arp_unsolicited"]:
            return answer
        if any(look.source) and any(look.sha) and not look.sha[0] & 1:
            self.claim(look, by, mac, ifindex, unasked, host)
        if unasked and by.who is not None and mac == look.sha:
            self.insists(look, by.who)
        if unasked and by.who is not None:
            t = self.tally("replies", "arp_unsolicited", by.who)
            assert t is not None
            t.total += 1
            if t.total >= self.set["arp_unsolicited"]:
                detail = f"{t.total} ARP replies that nobody asked for in {self.span(t)}"
                self.fire("arp_spoof", named(by.who), by.who, detail)
        return answer

    def claim(
        self,
        look: Look,
        by: By,
        mac: bytes,
        ifindex: int,
        unasked: bool,
        host: packet.Host,
    ) -> None:
        who = by.who
        address = str(ipaddress.ip_address(look.source))
        said = f"{address} is claimed by {look.sha.hex(':')}"
        if look.source in host.addresses and host.macs:
            if look.sha not in host.macs:
                detail = said + ", and is the gateway's own"
                self.fire("arp_spoof", address, who, detail, decisive=who is not None, loud=True)
            return
        b = self.bound.get(look.source)
        if b is None or not self.holds_still(b):
            if mac == look.sha:
                b = Binding(mac, ifindex, "arp", self.clock, latest=mac, firm=not unasked)
                self.bound[look.source] = b
            return
        before = f"{said}, and was claimed by {b.mac.hex(':')} before"
        said += f", and belongs to {b.mac.hex(':')}"
        if b.mac != look.sha and not b.firm and mac == look.sha and not unasked:
            b = Binding(mac, b.ifindex, "arp", self.clock, rival=b.mac, latest=mac, disputed=True)
            self.bound[look.source] = b
            self.fire("arp_spoof", address, None, before)
        elif b.mac != look.sha:
            certain = b.firm and not b.disputed
            first = b.rival != look.sha
            alive = bool(b.rival and b.owner_after and b.owner_after + ALIVE > self.clock)
            b.rival, b.owner_after, b.claimed, b.culprit = look.sha, 0, self.clock, None
            loud = {"decisive": who is not None, "loud": True}
            if mac == b.mac:
                self.fire("arp_spoof", address, None, said)
            elif b.source == "configured":
                self.fire("arp_spoof", address, who, said + " by the configuration", **loud)
            elif not b.firm:
                if first or unasked:
                    self.fire("arp_spoof", address, None, before)
            elif mac != look.sha and certain:
                detail = said + "; the frame came from a third MAC"
                self.fire("arp_spoof", address, who, detail, **loud)
            elif alive and not first and unasked and certain:
                self.fire("arp_spoof", address, who, said + ", which still uses it", **loud)
            elif first or unasked:
                self.fire("arp_spoof", address, who, said)
                if unasked and certain and by.counts and who is not None and any(who[3]):
                    b.culprit = who
        elif mac == look.sha:
            self.alive(b, ifindex, look.source)
            b.firm = b.firm or not unasked
        if b.latest == look.sha:
            return
        b.latest = look.sha
        if b.window != self.window:
            b.window, b.changes = self.window, 0
        b.changes += 1
        if self.set["arp_mac_changes"] and b.changes >= self.set["arp_mac_changes"]:
            culprit = who if b.firm and look.sha != b.mac else None
            detail = f"{said}; it changed hands {b.changes} times"
            self.fire("arp_spoof", address, culprit, detail)
