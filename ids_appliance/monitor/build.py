"""A monitor's settings in, the monitor up or gone out; killed anywhere, the next call mends it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec

from ids_appliance.errors import MonitorError, SwitchDown
from ids_appliance.monitor import commands, hosts, watchdog
from ids_appliance.monitor import links as kernel
from ids_appliance.monitor.plan import Plan, dismissed, plan
from ids_appliance.monitor.record import Record, Records
from ids_appliance.monitor.settings import Monitor
from ids_appliance.monitor.steps import Step
from ids_appliance.monitor.switch import Switch, is_marked

_TRIES: Final = 3
"""A container may start or end meanwhile: what is missing then is made as well."""
TOOLS = ("ip", "ethtool", "ovs-vsctl", "ovs-ofctl", "ovs-appctl")


@dataclass(frozen=True, slots=True)
class Done:
    """What was changed."""

    lines: tuple[str, ...]
    unconfirmed: str = ""
    """The uplink that will be given back unless somebody confirms."""


class Building:
    """One monitor: what is missing, up, down."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor
        self.switch = Switch(monitor.ovs_run_dir)
        self.records = Records(monitor.run_dir, monitor.name)

    def missing(self, *, waiting: bool = False) -> tuple[str, ...]:
        """Return what `up` would change, in lines; change nothing. Raises MonitorError."""
        commands.require(*TOOLS)
        return plan(self.monitor, self.switch, self.records, waiting=waiting).lines

    def up(self, *, waiting: bool = False, confirmed: bool = False) -> Done:
        """Make what is missing; `confirmed`: without a watchdog for the uplink.

        Raises MonitorError: nothing was changed where it says what stands in the way; where a
        step failed, the next `up` or `down` goes on from there, and a moved uplink is back.
        """
        commands.require(*TOOLS)
        with self.records.locked():
            monitor = self.monitor
            if confirmed:
                given = msgspec.structs.replace(monitor.uplink, confirm_s=0)
                monitor = msgspec.structs.replace(monitor, uplink=given)
            moved = False
            lines: list[str] = []
            try:
                for _ in range(_TRIES):
                    todo = plan(monitor, self.switch, self.records, waiting=waiting)
                    if not todo.steps:
                        break
                    moved = moved or todo.moves
                    self._make(todo)
                    lines += todo.lines
                else:
                    raise MonitorError(f"somebody else undoes it: {todo.lines[0]}")
            except MonitorError:
                if moved:  # nobody may be cut off because a later step has failed
                    watchdog.give_back(self.records)
                raise
            return self._finished(todo.after, lines)

    def _make(self, todo: Plan) -> None:
        self.records.write(todo.before)
        for step in todo.steps:
            step.do()
        ours = {host.bridge_end for host in self.monitor.hosts}
        ours |= {self.monitor.bridge.name, self.monitor.uplink.interface}
        for one in self.switch.picture().interfaces.values():
            if one.error and one.name in ours:
                raise MonitorError(f"Open vSwitch cannot use {one.name!r}: {one.error}")

    def _finished(self, record: Record, lines: list[str]) -> Done:
        if self.records.read() != record:
            self.records.write(record)
        was = record.uplink
        if was is not None and was.confirmed:
            watchdog.tell(self.records, was.token)
        unconfirmed = was.interface if was is not None and not was.confirmed else ""
        return Done(tuple(lines), unconfirmed)

    def confirm(self) -> str:
        """Keep the moved uplink; return its name. Raises MonitorError."""
        return watchdog.confirm(self.records)

    def down(self) -> tuple[str, ...]:
        """Take everything of ours away; return what was removed. Raises MonitorError."""
        commands.require(*TOOLS)
        with self.records.locked():
            record = self.records.read()
            removed: list[str] = []
            down: SwitchDown | None = None
            for step in self._removal(record):
                try:
                    step.do()
                except SwitchDown as error:
                    down = error  # everything else can go without the switch
                    continue
                removed += step.lines
            if down is not None:
                raise SwitchDown(
                    f"{down}; then `down` once more: bridge {self.monitor.bridge.name} is still in "
                    "its database, all else is gone"
                ) from down
            self.records.remove()
            return tuple(removed)

    def _removal(self, record: Record | None) -> Iterator[Step]:
        """Yield what takes away what was recorded, and what only carries our mark."""
        name, mark = self.monitor.name, kernel.mark(self.monitor.name)
        if record and record.uplink:
            yield dismissed(record.uplink, self.records)
        yield from self._bridges(name)
        links = kernel.links()
        joined = set(record.hosts) if record else set()
        known = {one.bridge_end for one in joined}
        for one in sorted(joined, key=lambda one: one.bridge_end):
            yield from hosts.leave(one, mark, links)
        for link in links.values():
            if link.ifalias == mark and link.kind == "veth" and link.ifname not in known:
                yield hosts.unplug(link.ifname)
        named = {one.namespace for one in joined if one.made}
        for namespace in sorted(hosts.marked_namespaces(mark) - named):
            yield hosts.removal(namespace)

    def _bridges(self, name: str) -> Iterator[Step]:
        try:
            self.switch.require()
            rows = self.switch.picture().bridges.values()
        except SwitchDown as error:
            yield Step((), partial(_fail, error))
            return
        for row in rows:
            if is_marked(row, name):
                yield Step((f"- bridge {row.name}",), partial(self._delete, row.name))

    def _delete(self, bridge: str) -> None:
        self.switch.vsctl("--if-exists", "del-br", bridge)


def _fail(error: SwitchDown) -> None:
    raise error
