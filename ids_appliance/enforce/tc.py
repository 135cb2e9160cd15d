"""Rates of links in, classes and queues on outgoing interfaces out: set up, kept, counted, removed.

An interface whose root queue somebody has chosen is left alone and named. What another gateway of
ours has left is taken over as it stands: classes are replaced in place, which costs no packet and
no counter. Where ours goes, the kernel puts back its own choice, the only thing that we replace.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from ids_appliance.config.priorities import AUTO, AUTO_SHARE, Tc, rate
from ids_appliance.enforce import tc_kernel
from ids_appliance.enforce.installation import Note
from ids_appliance.enforce.link_speed import interface_mtu, link_speed
from ids_appliance.enforce.marks import TrafficClass
from ids_appliance.enforce.nft import TERSE, Nft, NftError
from ids_appliance.enforce.owner import Owner, owner_of, this_process
from ids_appliance.enforce.ruleset import SCHEMA, replaced
from ids_appliance.enforce.tables import present
from ids_appliance.enforce.tc_kernel import Queues, TcError
from ids_appliance.enforce.tc_plan import (
    KINDS,
    SPLIT,
    class_lines,
    queue_lines,
    root_line,
    shares,
)
from ids_appliance.enforce.tc_table import TABLE, Leaving, table
from ids_appliance.errors import EnforceError

FULL_S: Final = 30.0
"""How often the classes' numbers are compared as well."""


class TrafficClasses:
    """The classes of the configured interfaces; one thread at a time.

    node_ports: TCP ports of the nodes that judge for us. uid: the user we run as. clock: seconds,
    monotonic. on_note: told what people should know.
    """

    def __init__(
        self,
        tc: Tc,
        *,
        node_ports: Sequence[int],
        uid: int,
        clock: Callable[[], float],
        on_note: Note = lambda kind, line: None,
    ) -> None:
        self._tc = tc
        self._node_ports = tuple(dict.fromkeys(node_ports))
        self._uid = uid
        self._clock = clock
        self._note = on_note
        self._nft = Nft()
        self._kinds: tuple[str, ...] = KINDS
        self._texts: dict[str, str] = {}
        self._why: dict[str, str] = {}
        self._made = ""
        self._full_due = 0.0
        self._counts: dict[str, int] = {}
        self._repairs = 0

    @property
    def standing(self) -> tuple[str, ...]:
        """Interfaces whose classes stand, in the order of the configuration."""
        return tuple(name for name in self._tc.rates if name in self._texts)

    def open(self) -> None:
        """Set up what is missing, take over what is there; what cannot be is told.

        Raises EnforceError, PermissionMissing: nothing can be set up at all (no tc, a table of our
        name is not ours, another gateway runs).
        """
        owner = _owner(self._nft)
        mine = this_process(SCHEMA)
        ours = owner is None or (owner.pid, owner.start) == (mine.pid, mine.start)
        if owner is not None and not ours and owner.alive():
            raise EnforceError(f"another gateway (pid {owner.pid}) holds the table {TABLE}")
        demand_egress(self._nft)
        found = tc_kernel.look()
        if owner is None:
            self._make_table()  # first: it tells of the classes, should we be killed by then
        for name, queues in found.items():
            if queues.ours and name not in self._tc.rates:
                self._remove(name)  # of an earlier configuration
        self._bring_about(found, first=True)
        self._make_table()

    def reconcile(self) -> None:
        """Compare with what should be, repair it, and read the counters."""
        found = tc_kernel.look()
        before = self.standing
        self._bring_about(found, first=False)
        if before != self.standing or self._table_text() != self._made:
            self._make_table()
            self._repaired("the table was altered" if before == self.standing else "")

    def clear(self) -> None:
        """Remove everything of ours and nothing else."""
        remove_classes()
        self._texts.clear()
        self._counts.clear()
        self._why.clear()
        self._made = ""

    def counters(self) -> dict[str, int]:
        """Return what each queue sent, dropped and held when it was last looked at."""
        missing = len(self._tc.rates) - len(self._texts)
        totals = {"tc_interfaces": len(self._texts), "tc_missing": missing}
        return totals | {"tc_repairs": self._repairs} | self._counts

    # -------------------------------------------------------------------------------------------

    def _bring_about(self, found: dict[str, Queues], *, first: bool) -> None:
        there = present(tuple(self._tc.rates))
        full = first or self._clock() >= self._full_due
        counts: dict[str, int] = {}
        for name, text in self._tc.rates.items():
            queues = found.get(name, Queues())
            try:
                if name not in there:
                    raise EnforceError("there is no such interface")
                self._interface(name, _bits(name, text), queues, full=full)
                self._why.pop(name, None)
            except EnforceError as error:
                self._texts.pop(name, None)
                self._say_why(name, str(error))
                continue
            for which, values in queues.counts.items():
                for word, number in values.items():
                    counts[f"tc_{word}_{name}/{which.name.lower()}"] = number
        self._counts = counts
        if full:
            self._full_due = self._clock() + FULL_S

    def _interface(self, name: str, bits: int, queues: Queues, *, full: bool) -> None:
        if queues.root:
            raise EnforceError(
                f"its root is somebody else's ({queues.root}), and stays: to have ours, "
                f"tc qdisc del dev {name} root"
            )
        known = self._texts.get(name)
        # Frames longer than those that the queues were made for would be dropped.
        mtu = interface_mtu(name) if bits < SPLIT else 0
        stale = bool(queues.splits) != bool(mtu) or queues.splits < mtu
        if not queues.whole or stale:
            if queues.ours:
                self._remove(name)
            self._build(name, bits, mtu)
            if known is not None:
                self._repaired(f"classes on {name} were gone, or for another MTU")
        elif known is None or (full and tc_kernel.classes(name) != known):
            tc_kernel.run(class_lines(name, "replace", self._tc, bits))
            self._tell_kind(queues.kinds[TrafficClass.NORMAL])
            if known is not None:
                self._repaired(f"classes on {name} had been altered")
        elif not full:
            return
        self._texts[name] = tc_kernel.classes(name)

    def _build(self, name: str, bits: int, mtu: int) -> None:
        for kind in self._kinds:
            queues = queue_lines(name, kind, shares(self._tc, bits), mtu=mtu)
            lines = [root_line(name), *class_lines(name, "add", self._tc, bits)]
            try:
                tc_kernel.run([*lines, *queues])
            except TcError as error:
                if error.line == 1 and error.unknown_kind:
                    raise EnforceError("this kernel lacks HTB: modprobe sch_htb") from error
                self._remove(name)
                if error.line > len(lines) and error.unknown_kind and kind != KINDS[-1]:
                    continue
                raise
            self._kinds = (kind, *(k for k in self._kinds if k != kind))
            self._tell_kind(kind)
            return

    def _tell_kind(self, kind: str) -> None:
        if kind == KINDS[-1]:
            line = "neither fq_codel nor sfq: flows of one class wait in one queue"
            self._say_why("", f"this kernel has {line}")

    def _make_table(self) -> None:
        owner = this_process(SCHEMA).text()
        made = Leaving(self._tc, self.standing, self._node_ports, self._uid, owner)
        self._nft.run(replaced(TABLE) + table(made))
        self._made = self._table_text()

    def _table_text(self) -> str:
        try:
            return self._nft.run(f"list table {TABLE}", flags=TERSE)
        except NftError as error:
            if error.missing:
                return ""
            raise

    def _remove(self, name: str) -> None:
        with suppress(TcError):  # gone meanwhile, with its interface
            tc_kernel.run([f"qdisc del dev {name} root"])

    def _say_why(self, name: str, why: str) -> None:
        if self._why.get(name) != why:  # once, not at each comparison
            self._why[name] = why
            self._note("limited", f"no classes on {name}: {why}" if name else why)

    def _repaired(self, why: str) -> None:
        self._repairs += 1
        if why:
            self._note("rebuilt", f"tc: {why}: made anew")


def remove_classes() -> list[str]:
    """Remove our classes and their table from this network namespace; return what it was.

    Raises EnforceError, PermissionMissing.
    """
    nft = Nft()
    there = _owner(nft) is not None
    removed = [TABLE] if there else []
    try:
        found = tc_kernel.look()
    except EnforceError:
        if not there:
            return []  # no tc, and nothing that would have needed it
        nft.run(replaced(TABLE))
        raise
    try:
        for name, queues in found.items():
            if queues.ours:
                tc_kernel.run([f"qdisc del dev {name} root"])
                removed.append(f"tc classes on {name}")
    finally:
        if there:
            nft.run(replaced(TABLE))  # last: classes are looked for where it is
    return removed


def demand_egress(nft: Nft) -> None:
    """Raise EnforceError where the kernel has no hook for packets that leave."""
    probe = 'chain c { type filter hook egress device "lo" priority 0; policy accept; }'
    try:
        nft.run(f"table netdev ids_probe_egress {{\n{probe}\n}}", check=True)
    except NftError as error:
        raise EnforceError(
            f"this kernel, or this nftables, has no egress hook (Linux 5.16): {error}"
        ) from error


def left_behind() -> bool:
    """Return whether a gateway has left classes here; asks nft alone, which costs no process."""
    return _owner(Nft()) is not None


def _owner(nft: Nft) -> Owner | None:
    """Return whose our table is, None where there is none. Raises EnforceError: not ours."""
    try:
        nft.run(f"list table {TABLE}", flags=TERSE)
    except NftError as error:
        if error.missing:
            return None
        raise
    try:
        found = owner_of(nft.run(f"list set {TABLE} owner"))
    except NftError as error:
        if not error.missing:
            raise
        found = None
    if found is None:
        raise EnforceError(f"table {TABLE} is there and not ours: rename or delete it")
    return found


def _bits(name: str, text: str) -> int:
    if text != AUTO:
        return rate(text)
    speed = link_speed(name)
    if not speed:
        raise EnforceError(f'it states no speed for "auto": name one, {name} = "18 mbit"')
    return int(speed * AUTO_SHARE)
