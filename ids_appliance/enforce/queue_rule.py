"""Protected interfaces and queues' numbers in, the kernel's rule that holds packets for them out.

One table of our own, `inet ids_inline`: whatever is routed from or to a protected interface waits
in the queue for its verdict, flows judged clean pass beside it (docs/inline.md). Others' chains and
tables are never touched, so there is nothing to restore: the table goes, and the rule is gone.

The queue statement is nft's own where the kernel has it. Else the same target of iptables is put
into our chain by the message that iptables-nft would send (NFTA_TARGET_*,
linux/netfilter/nf_tables_compat.h; struct xt_NFQ_info_v3, linux/netfilter/xt_NFQUEUE.h); the nft
language has no words for it. Both with `bypass`: while nobody reads the queue, packets pass.

Whoever takes a chain off its hook makes the kernel drop every packet that waits in any queue of the
namespace (nf_queue_nf_hook_drop, net/netfilter/core.c). So the table is not made anew where it
stands, and `let_pass` comes before `remove`: what waits has its verdict between the two.
"""

import re
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from ids_appliance.enforce.elements import quoted
from ids_appliance.enforce.nft import Nft, NftError
from ids_appliance.enforce.owner import Owner, owner_of, this_process
from ids_appliance.errors import InlineError

TABLE: Final = "ids_inline"
SCHEMA: Final = 1
PRIORITY: Final = -5
"""After our limits for flooded victims (-10), before others' filters (0)."""

Kind = Literal["nft", "xt"]
Flow = tuple[bytes, int, bytes, int]
"""Source address (4 or 16 bytes) and port, destination address and port; of TCP."""

_FAMILIES: Final = {4: ("ip", "ipv4_addr"), 6: ("ip6", "ipv6_addr")}
_NEWRULE: Final = (10 << 8) | 6  # NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWRULE
_BEGIN, _END, _NFTABLES = 16, 17, 10
_REQUEST, _ACK, _CREATE, _APPEND = 0x1, 0x4, 0x400, 0x800
_INET: Final = 1
_NETFILTER: Final = 12  # NETLINK_NETFILTER (linux/netlink.h)
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_BYPASS: Final = 1


class QueueRule:
    """The table of one gateway. Not safe for use by several threads at a time."""

    def __init__(self, queue: int, *, max_clean: int, queues: int = 1) -> None:
        """max_clean: flows of each family that may pass beside the queue at a time. queues: over
        so many, from `queue` on, packets are spread by both their addresses, in either order."""
        self._queue = queue
        self._queues = queues
        self._max_clean = max_clean
        self._nft = Nft()
        self.kind: Kind = "nft"
        """What holds the packets; known once it is installed."""
        self.installed = False
        self._passing = False
        self._before = {"queued": 0, "clean": 0}
        self._totals = {"forward_queued": 0, "forward_clean": 0}

    def install(self, interfaces: Sequence[str], above: Sequence[str] = ()) -> None:
        """Let packets that are routed from or to these wait in the queue, from now on.

        above: bridges and VLANs on the interfaces, where routed packets are met. A table that a
        killed gateway has left is replaced. Raises InlineError: another gateway's, somebody else's,
        or the kernel has no such rule; PermissionMissing.
        """
        self._refuse_others()
        names = [*dict.fromkeys((*interfaces, *above))]
        if self.installed and not self._passing and self.stands():
            self._rename(names)
            return
        self._add_up()
        self.kind = self._probe()
        text = self._text(names)
        try:
            self._nft.run(_removed() + text)
            if self.kind == "xt":
                add_target(TABLE, "to_queue", queue=self._queue, queues=self._queues)
        except (NftError, OSError) as error:
            self._nft.run(_removed())
            raise InlineError(f"the rule for queue {self._queue} cannot be set: {error}") from error
        self.installed = True
        self._passing = False

    def let_pass(self) -> None:
        """Let packets pass without verdict; those that wait already go on waiting for theirs.

        What counts and what names us stays until `remove`."""
        self._passing = True
        if self.installed:
            self._nft.run(f"flush chain inet {TABLE} to_queue")

    @property
    def passing(self) -> bool:
        """It is there, and nothing comes into the queue any more."""
        return self.installed and self._passing

    def remove(self) -> bool:
        """Remove it; return whether there was a rule of ours. What waits still is lost."""
        self._add_up()
        self.installed = self._passing = False
        return remove(self._nft)

    def stands(self) -> bool:
        """Return whether the table is there and ours, as far as its mark tells."""
        owner = _owner(self._nft)
        return owner is not None and owner.pid == this_process(SCHEMA).pid

    def pass_by(self, flows: Iterable[Flow], *, for_s: float) -> None:
        """Let flows judged clean go beside the queue, both ways, for a time."""
        self._elements("add", flows, f" timeout {max(1, round(for_s))}s")

    def judge_again(self, flows: Iterable[Flow]) -> None:
        """Take flows back into the queue; those that are not beside it are passed over."""
        for flow in flows:
            try:
                self._elements("delete", (flow,), "")
            except NftError as error:
                if not error.missing:
                    raise

    def judge_all_again(self) -> None:
        """Take every flow back into the queue."""
        if self.installed:
            self._nft.run("".join(f"flush set inet {TABLE} clean{f}\n" for f in _FAMILIES))

    def count(self) -> None:
        """Ask the kernel for the totals anew."""
        now = self._counted()
        self._totals = {f"forward_{name}": n + now[name] for name, n in self._before.items()}

    def counters(self) -> dict[str, int]:
        """Return the totals of the last `count`: packets that were to be queued, and those that
        went beside the queue."""
        return self._totals

    # -------------------------------------------------------------------------------------------

    def _refuse_others(self) -> None:
        try:
            self._nft.run(f"list set inet {TABLE} owner")
        except NftError as error:
            if not error.missing:
                raise
            if self._there():
                raise InlineError(
                    f"table inet {TABLE} is there and not ours: rename or delete it"
                ) from error
            return
        owner = _owner(self._nft)
        if owner is None:
            raise InlineError(f"table inet {TABLE} is there and not ours: rename or delete it")
        mine = this_process(SCHEMA)
        if owner.alive() and (owner.pid, owner.start) != (mine.pid, mine.start):
            raise InlineError(
                f"another gateway (pid {owner.pid}) holds the table {TABLE}: stop it first"
            )

    def _rename(self, names: Sequence[str]) -> None:
        """Let the rule that stands hold for these interfaces from now on."""
        elements = ", ".join(quoted(name) for name in names)
        more = f"add element inet {TABLE} owner {{ {elements} }}\n" if names else ""
        self._nft.run(f"flush set inet {TABLE} owner\n{more}")

    def _there(self) -> bool:
        tables = self._nft.run("list tables inet").split()
        return TABLE in tables

    def _probe(self) -> Kind:
        try:
            self._nft.run(f"table inet {TABLE}_probe {{ chain c {{\n{self._statement}\n}}\n}}",
                          check=True)  # fmt: skip
        except NftError:
            return "xt"
        return "nft"

    @property
    def _statement(self) -> str:
        last = f"-{self._queue + self._queues - 1}" if self._queues > 1 else ""
        return f"queue flags bypass to {self._queue}{last}"

    def _text(self, names: Sequence[str]) -> str:
        owner = this_process(SCHEMA).text()
        elements = ", ".join(quoted(name) for name in names)
        held = f" elements = {{ {elements} }};" if names else ""
        lines = [
            f"table inet {TABLE} {{",
            f'set owner {{ type ifname; comment "{owner}";{held} }}',
            "counter queued { }",
            "counter clean { }",
        ]
        passing = []
        for family, (ip, kind) in _FAMILIES.items():
            lines.append(
                f"set clean{family} {{ type {kind} . inet_service . {kind} . inet_service; "
                f"flags timeout; size {2 * self._max_clean}; }}"
            )
            flow = f"{ip} saddr . tcp sport . {ip} daddr . tcp dport"
            passing.append(f"{flow} @clean{family} counter name clean accept")
        # What opens or ends a connection is always seen: the rules count it.
        lines += ["chain bulk {", *passing, "}"]
        lines += ["chain to_queue {", self._statement if self.kind == "nft" else "", "}"]
        lines += [
            "chain judged {",
            "tcp flags & (fin | syn | rst) == 0 jump bulk",
            "counter name queued jump to_queue",
            "}",
            "chain on_forward {",
            f"type filter hook forward priority {PRIORITY}; policy accept;",
            "iifname @owner goto judged",
            "oifname @owner goto judged",
            "}",
            "}",
        ]
        return "\n".join(lines) + "\n"

    def _elements(self, verb: str, flows: Iterable[Flow], words: str) -> None:
        by_family: dict[int, list[str]] = {4: [], 6: []}
        for source, sport, target, dport in flows:
            one, other = (_address(source), sport), (_address(target), dport)
            for (a, p), (b, q) in ((one, other), (other, one)):
                family = 4 if len(source) == 4 else 6
                by_family[family].append(f"{a} . {p} . {b} . {q}{words}")
        commands = [
            f"{verb} element inet {TABLE} clean{family} {{ {', '.join(texts)} }}"
            for family, texts in by_family.items()
            if texts
        ]
        if commands and self.installed:
            self._nft.run("\n".join(commands))

    def _counted(self) -> dict[str, int]:
        found = dict.fromkeys(self._before, 0)
        if not self.installed:
            return found
        try:
            text = self._nft.run(f"list counters table inet {TABLE}")
        except NftError:
            return found  # somebody has removed the table
        for name, packets in re.findall(r"counter (\w+) \{\s*packets (\d+)", text):
            found[name] = int(packets)
        return found

    def _add_up(self) -> None:
        for name, packets in self._counted().items():
            self._before[name] += packets


def remove(nft: Nft) -> bool:
    """Remove our table, whichever gateway of ours has left it; return whether there was one."""
    if _owner(nft) is None:
        return False
    nft.run(_removed())
    return True


def _owner(nft: Nft) -> Owner | None:
    try:
        return owner_of(nft.run(f"list set inet {TABLE} owner"))
    except NftError as error:
        if error.missing:
            return None
        raise


def _removed() -> str:
    return f"table inet {TABLE}\ndelete table inet {TABLE}\n"


def _address(address: bytes) -> str:
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, address)


def add_target(table: str, chain: str, *, queue: int, queues: int = 1) -> None:
    """Append iptables' NFQUEUE target to a chain of an inet table, with bypass; over several queues
    from the first on it spreads packets by both their addresses. Raises OSError."""
    info = struct.pack("=HHH2x", queue, queues, _BYPASS)
    target = _attribute(1, b"NFQUEUE\0") + _attribute(2, struct.pack(">I", 3)) + _attribute(3, info)
    expression = _attribute(1, b"target\0") + _attribute(2, target, nested=True)
    rule = (
        _attribute(1, table.encode() + b"\0")
        + _attribute(2, chain.encode() + b"\0")
        + _attribute(4, _attribute(1, expression, nested=True), nested=True)
    )
    batch = (
        _message(_BEGIN, _REQUEST, resource=_NFTABLES)
        + _message(_NEWRULE, _REQUEST | _ACK | _CREATE | _APPEND, family=_INET, body=rule)
        + _message(_END, _REQUEST, resource=_NFTABLES)
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER) as kernel:
        kernel.settimeout(5.0)
        kernel.bind((0, 0))
        kernel.send(batch)
        answer = kernel.recv(1 << 14)
    code = -struct.unpack_from("=i", answer, _HEADER.size)[0]
    if code:
        raise OSError(code, "the kernel has neither nft's queue nor iptables' NFQUEUE")


def _attribute(kind: int, data: bytes, *, nested: bool = False) -> bytes:
    length = 4 + len(data)
    return struct.pack("=HH", length, kind | (0x8000 if nested else 0)) + data + bytes(-length % 4)


def _message(
    kind: int, flags: int, *, family: int = 0, resource: int = 0, body: bytes = b""
) -> bytes:
    payload = struct.pack("=BBH", family, 0, socket.htons(resource)) + body
    return _HEADER.pack(_HEADER.size + len(payload), kind, flags, 0, 0) + payload
