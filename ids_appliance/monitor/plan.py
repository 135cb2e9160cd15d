"""Settings and the machine as it is in, the steps that are missing between them out.

Nothing is changed here, and what stands in the way is said before anything is.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import msgspec

from ids_appliance.errors import MonitorError
from ids_appliance.monitor import commands, containers, hosts, ports, uplink, watchdog
from ids_appliance.monitor import links as kernel
from ids_appliance.monitor.contradictions import interface_address
from ids_appliance.monitor.links import Link
from ids_appliance.monitor.record import VERSION, Before, Joined, Record, Records, boot_id
from ids_appliance.monitor.settings import Host, Monitor
from ids_appliance.monitor.steps import Step
from ids_appliance.monitor.switch import Picture, Switch


@dataclass(frozen=True, slots=True)
class Plan:
    """What is still to be done, and what is to be recorded before and after it."""

    steps: tuple[Step, ...]
    before: Record
    """All that was there and all that will be: for whoever has to clean up."""
    after: Record
    moves: bool
    """The uplink's addresses are among what moves."""

    @property
    def lines(self) -> tuple[str, ...]:
        """Return the steps in words."""
        return tuple(line for step in self.steps for line in step.lines)


def plan(monitor: Monitor, switch: Switch, records: Records, *, waiting: bool = False) -> Plan:
    """Return what is missing. Raises MonitorError where something foreign is in the way.

    With `waiting`, containers that do not run are left out: they will be joined when they start.
    """
    switch.require()
    record, links, picture = records.read(), kernel.links(), switch.picture()
    mark = kernel.mark(monitor.name)
    _refuse(monitor, links, picture)
    wanted = [host for host in monitor.hosts if not (waiting and _absent(host))]
    views = [hosts.view(host, mark, links, record) for host in wanted]
    present = {one.host.bridge_end for one in views}
    absent = {host.bridge_end for host in monitor.hosts} - present
    joined = {one.joined for one in views}
    known = set(record.hosts) if record else set()
    was = _uplink(monitor, record, links)
    after = Record(
        version=VERSION,
        name=monitor.name,
        boot_id=boot_id(),
        ovs_run_dir=monitor.ovs_run_dir,
        bridge=monitor.bridge.name,
        addresses=tuple(map(hosts.normal, monitor.bridge.addresses)),
        hosts=tuple(sorted(joined, key=lambda one: one.bridge_end)),
        uplink=was,
    )
    before = msgspec.structs.replace(
        after,
        addresses=tuple(sorted({*after.addresses, *(record.addresses if record else ())})),
        hosts=tuple(sorted(joined | known, key=lambda one: (one.bridge_end, one.namespace))),
        uplink=record.uplink if record and record.uplink and was is None else was,
    )
    remade = {one.host.bridge_end for one in views if not one.intact} | absent
    gone = {name for name in remade if picture.port(name) is not None}
    given = monitor_without(monitor, absent)
    steps = [*ports.loosen(picture, gone).steps(switch)]
    if record and record.uplink and record.uplink.interface != monitor.uplink.interface:
        steps.append(dismissed(record.uplink, records))
        gone.add(record.uplink.interface)
    steps += _orphans(known - joined, joined, mark, links)
    steps += [step for one in views for step in hosts.steps(one, mark)]
    joining = ports.bridge_and_ports(given, picture, gone)
    copying = ports.mirrors(given, picture, gone)
    moving: list[Step] = []
    guard: list[Step] = []
    if was is not None:
        moving = list(uplink.steps(monitor, was, there=links, picture=picture, switch=switch))
        guard = list(_guard(was, monitor, records)) if moving else []
    if moving:
        steps += [*joining.steps(switch), *_addresses(monitor, record, links)]
        steps += [*guard, *moving, *copying.steps(switch)]
    else:
        joining.lines += copying.lines
        joining.words += copying.words
        steps += [*joining.steps(switch), *_addresses(monitor, record, links)]
    return Plan(tuple(steps), before, after, moves=bool(moving))


def monitor_without(monitor: Monitor, absent: set[str]) -> Monitor:
    """Return the settings without hosts whose container does not run, by their bridge ends."""
    if not absent:
        return monitor
    names = absent | {host.name for host in monitor.hosts if host.bridge_end in absent}
    left = []
    for mirror in monitor.mirrors:
        reduced = msgspec.structs.replace(
            mirror,
            source=tuple(one for one in mirror.source if one not in names),
            destination=tuple(one for one in mirror.destination if one not in names),
        )
        if mirror.output not in names and (reduced.all or reduced.source or reduced.destination):
            left.append(reduced)
    present = tuple(host for host in monitor.hosts if host.bridge_end not in absent)
    return msgspec.structs.replace(monitor, hosts=present, mirrors=tuple(left))


def _absent(host: Host) -> bool:
    if not host.container:
        return False
    try:
        containers.process_of(host.container, host.engine)
    except MonitorError:
        return True
    return False


def _refuse(monitor: Monitor, links: Mapping[str, Link], picture: Picture) -> None:
    """Raise MonitorError where a name or an address is somebody else's already."""
    bridge = monitor.bridge.name
    ports.refuse_foreign(monitor, picture)
    row = picture.bridge(bridge)
    ports.datapath(monitor, row)
    if bridge in links and row is None:
        raise MonitorError(
            f"there is an interface {bridge!r} already, and it is no bridge of Open vSwitch: "
            "choose another bridge.name"
        )
    if monitor.uplink.interface:
        uplink.refuse(monitor, links, picture)
    for text in monitor.bridge.addresses:
        network = interface_address(text).network
        for link in links.values():
            if link.ifname in {bridge, monitor.uplink.interface}:
                continue
            for one in link.addr_info:
                there = ipaddress.ip_interface(one.text).network
                if one.scope != "link" and there.version == network.version:
                    if network.overlaps(there) and there.prefixlen:
                        raise MonitorError(
                            f"bridge.addresses: {text} overlaps with {one.text} of {link.ifname}: "
                            "answers would take the wrong way; choose another network"
                        )


def _uplink(monitor: Monitor, record: Record | None, links: Mapping[str, Link]) -> Before | None:
    """Return what the uplink was like before: as recorded, with what has come to it since."""
    name = monitor.uplink.interface
    if not name:
        return None
    found = uplink.before(links[name])
    known = record.uplink if record else None
    if known is None or known.interface != name:
        was = found
    else:
        was = uplink.united(known, found) if links[name].addresses() else known
    confirmed = was.confirmed or monitor.uplink.confirm_s == 0
    return msgspec.structs.replace(was, confirmed=confirmed)


def dismissed(was: Before, records: Records) -> Step:
    """Return what gives an uplink back."""
    return Step(
        (f"- uplink {was.interface}: its addresses and routes go back to it",),
        partial(_give_back, records),
    )


def _give_back(records: Records) -> None:
    watchdog.give_back(records)


def _orphans(
    former: set[Joined], present: set[Joined], mark: str, links: Mapping[str, Link]
) -> Iterator[Step]:
    """Yield what takes hosts away that the settings no longer name, recorded or only marked."""
    seen = {one.bridge_end for one in present}
    namespaces = {one.namespace for one in present}
    for one in sorted(former, key=lambda one: (one.bridge_end, one.namespace)):
        if one.bridge_end not in seen:
            seen.add(one.bridge_end)
            yield from hosts.leave(one, mark, links)
        elif one.namespace not in namespaces:
            yield from hosts.give_up(one)
    for link in links.values():
        if link.ifalias == mark and link.kind == "veth" and link.ifname not in seen:
            yield hosts.unplug(link.ifname)


def _addresses(
    monitor: Monitor, record: Record | None, links: Mapping[str, Link]
) -> Iterator[Step]:
    """Yield what gives this machine its addresses on the bridge."""
    name = monitor.bridge.name
    link = links.get(name)
    there = link.addresses() if link else set()
    wanted = {hosts.normal(text) for text in monitor.bridge.addresses}
    former = (set(record.addresses) if record else set()) - wanted
    lines = [f"addr del {text} dev {name}" for text in sorted(there & former)]
    lines += [hosts.address_line(text, name) for text in sorted(wanted - there)]
    said = [f"- address {text} of {name}" for text in sorted(there & former)]
    said += [f"+ address {text} of {name}" for text in sorted(wanted - there)]
    if wanted and not (link and link.up):
        lines.append(f"link set dev {name} up")
        said.append(f"~ {name}: up")
    if lines:
        yield Step(tuple(said), partial(commands.batch, lines))


def _guard(was: Before, monitor: Monitor, records: Records) -> Iterator[Step]:
    """Yield the start of the watchdog, before the uplink moves."""
    seconds = monitor.uplink.confirm_s
    if not was.confirmed and not watchdog.listening(records, was.token):
        yield Step(
            (f"+ watchdog: undoes the move unless confirmed within {seconds} s",),
            partial(watchdog.start, records, was.token, seconds),
        )
