"""Hosts on paper and as they are in, what is missing between them and the switch out.

A cable is made in one request, its far end inside the host from the first moment (veth(4)); only
a cable with our mark on it is finished. Half a cable is taken away and made anew.
"""

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from ids_appliance.errors import MonitorError
from ids_appliance.monitor import commands, containers
from ids_appliance.monitor import links as kernel
from ids_appliance.monitor.links import NAMED, Link
from ids_appliance.monitor.record import Joined, Record
from ids_appliance.monitor.settings import Host
from ids_appliance.monitor.steps import Step

_LEAVE_S = 3.0


@dataclass(frozen=True, slots=True)
class View:
    """One host as it is."""

    host: Host
    joined: Joined
    process: int
    """Of the container; 0 for a namespace."""
    there: bool
    """Its namespace can be entered by its name."""
    outer: Link | None
    inner: Link | None
    offloaded: bool
    loopback: bool
    """lo is up in there, and has our mark where it has to."""

    @property
    def intact(self) -> bool:
        """Return whether the two ends belong to each other, and carry our mark."""
        outer, inner = self.outer, self.inner
        return (
            outer is not None
            and inner is not None
            and outer.ifalias.startswith(kernel.MARK)
            and (outer.link_index, inner.link_index) == (inner.ifindex, outer.ifindex)
        )


def namespace_of(host: Host) -> str:
    """Return the name that a host's namespace has, or is to have, under /var/run/netns."""
    return host.namespace or host.container


def view(host: Host, mark: str, links: Mapping[str, Link], record: Record | None) -> View:
    """Return how a host is. Raises MonitorError where something foreign is in the way."""
    name = namespace_of(host)
    known = {one.bridge_end: one for one in record.hosts} if record else {}
    outer = links.get(host.bridge_end)
    if outer and outer.ifalias != mark and not (host.bridge_end in known and not outer.ifalias):
        raise MonitorError(
            f"host {host.name}: there is an interface {host.bridge_end!r} already, and it is not "
            "this monitor's: remove it, or choose another bridge_end"
        )
    process = containers.process_of(host.container, host.engine) if host.container else 0
    there = _reachable(host, process)
    made, inner, offloaded, loopback = False, None, False, False
    if there:
        inside = kernel.links(name)
        ours = inside["lo"].ifalias == mark
        recorded = next((one for one in known.values() if one.namespace == name), None)
        made = not process and (ours or bool(recorded and recorded.made))
        loopback = not made or (ours and inside["lo"].up)
        inner = inside.get(host.inside)
        for taken in {host.inside, host.host_end} & inside.keys():
            foreign = outer is None or inside[taken].ifindex != outer.link_index
            if foreign and inside[taken].ifalias != mark:
                raise MonitorError(
                    f"host {host.name} has an interface {taken!r} already: choose another name "
                    "for `inside` or `host_end`"
                )
        offloaded = inner is not None and kernel.offloaded(name, host.inside)
    elif not process:
        made = True
    joined = Joined(
        bridge_end=host.bridge_end,
        host_end=host.host_end,
        inside=host.inside,
        namespace=name,
        made=made,
        container=bool(process),
    )
    return View(host, joined, process, there, outer, inner, offloaded, loopback)


def _reachable(host: Host, process: int) -> bool:
    """Return whether the name leads to the namespace that is meant. Raises MonitorError."""
    name = namespace_of(host)
    there = kernel.identity(name)
    if not process:
        if there and there == kernel.own_identity():
            raise MonitorError(f"namespace {name!r} is the one that the bridge itself is in")
        return kernel.present(name)
    meant = containers.namespace_of(process)
    if meant == kernel.own_identity():
        raise MonitorError(
            f"container {host.container!r} shares the machine's network: start it with "
            "--network none"
        )
    path = NAMED / name
    if there != meant and path.exists() and not path.is_symlink():
        raise MonitorError(
            f"there is a namespace {name!r} already, and it is not the container's: remove it "
            f"(ip netns del {name})"
        )
    return there == meant


def steps(one: View, mark: str) -> Iterator[Step]:
    """Yield what is to be done until the host is joined as its settings say."""
    host, name = one.host, one.joined.namespace
    if not one.there and one.process:
        yield Step(
            (f"+ name {name} for the namespace of container {host.container}",),
            partial(_attach, name, one.process),
        )
    elif not one.there:
        yield Step((f"+ namespace {name}",), partial(_make_namespace, name, mark))
    elif not one.loopback:
        yield Step((f"~ lo in {name}: up",), partial(_loopback, name, mark))
    if not one.intact:
        again = " (again)" if one.outer else ""
        address = " ".join(host.addresses) or "no address"
        yield Step(
            (f"+ cable {host.bridge_end} - {host.inside} in {name}, {address}{again}",),
            partial(_make_cable, one, mark),
        )
        return
    assert one.outer is not None and one.inner is not None
    lines = list(_differences(one, mark))
    if lines or one.offloaded or not one.outer.up:
        text = [f"~ {host.inside} in {name}: {line.replace(' dev ' + host.inside, '')}"
                for line in lines]  # fmt: skip
        text += [f"~ {host.inside} in {name}: checksums and segments made here"] * one.offloaded
        text += [f"~ {host.bridge_end}: up"] * (not one.outer.up)
        yield Step(tuple(text), partial(_correct, one, lines))


def _differences(one: View, mark: str) -> Iterator[str]:
    """Yield lines of `ip` that make the host's end what it should be."""
    host, inner = one.host, one.inner
    assert inner is not None
    if host.mac and host.mac.lower() != inner.address:
        yield f"link set dev {host.inside} address {host.mac}"
    if inner.ifalias != mark:
        yield f"link set dev {host.inside} alias {mark}"
    wanted = {normal(text) for text in host.addresses}
    for text in sorted(inner.addresses() - wanted):
        yield f"addr del {text} dev {host.inside}"
    for text in sorted(wanted - inner.addresses()):
        yield address_line(text, host.inside)
    if not inner.up:
        yield f"link set dev {host.inside} up"


def normal(text: str) -> str:
    """Return an address with its length the way the kernel prints it."""
    address, _, length = text.partition("/")
    return f"{kernel.compressed(address)}/{int(length)}"


def address_line(text: str, device: str) -> str:
    """Return the line of `ip` that gives a device an address, whether it has it or not."""
    # No probing for duplicates: the address is there when the command is done.
    extra = " nodad" if ":" in text else " broadcast +"
    if ":" not in text and int(text.partition("/")[2]) >= 31:
        extra = ""
    return f"addr replace {text} dev {device}{extra}"


def _attach(name: str, process: int) -> None:
    NAMED.mkdir(parents=True, exist_ok=True)
    beside = NAMED / f".{name}.new"
    beside.unlink(missing_ok=True)
    beside.symlink_to(f"/proc/{process}/ns/net")
    beside.replace(NAMED / name)


def _make_namespace(name: str, mark: str) -> None:
    with contextlib.suppress(OSError):
        if (NAMED / name).exists():  # a file without a namespace: killed between the two
            (NAMED / name).unlink()
    commands.run("ip", "netns", "add", name)
    _loopback(name, mark)


def _loopback(name: str, mark: str) -> None:
    commands.batch((f"link set dev lo alias {mark}", "link set dev lo up"), namespace=name)


def _make_cable(one: View, mark: str) -> None:
    host, name = one.host, one.joined.namespace
    mac = f" address {host.mac}" if host.mac else ""
    # An end in a namespace of ours that lost its other end's name is gone with that end.
    lines = [f"link del dev {host.bridge_end}"] if one.outer else []
    lines += [
        f"link add {host.bridge_end} type veth peer name {host.host_end}{mac} netns {name}",
        f"link set dev {host.bridge_end} alias {mark}",
        f"link set dev {host.bridge_end} up",
    ]
    commands.batch(lines)
    lines = [f"link set dev {host.host_end} name {host.inside}"]
    lines = lines if host.host_end != host.inside else []
    lines += [f"link set dev {host.inside} alias {mark}"]
    lines += [address_line(text, host.inside) for text in host.addresses]
    commands.batch([*lines, f"link set dev {host.inside} up"], namespace=name)
    _no_offloads(name, host.inside)


def _correct(one: View, lines: list[str]) -> None:
    host, name = one.host, one.joined.namespace
    commands.batch(lines, namespace=name)
    if one.offloaded:
        _no_offloads(name, host.inside)
    commands.batch([f"link set dev {host.bridge_end} up"])


def _no_offloads(name: str, interface: str) -> None:
    off = ("tx", "off", "tso", "off", "gso", "off", "gro", "off")
    commands.run("ip", "netns", "exec", name, "ethtool", "-K", interface, *off)


def leave(joined: Joined, mark: str, links: Mapping[str, Link]) -> Iterator[Step]:
    """Yield what takes a host's cable away again, and its namespace if it is ours."""
    outer = links.get(joined.bridge_end)
    if outer and outer.kind == "veth" and outer.ifalias in {mark, ""}:
        yield unplug(joined.bridge_end)
    yield from give_up(joined)


def give_up(joined: Joined) -> Iterator[Step]:
    """Yield what takes a host's namespace away if it is ours, or the name of a container's."""
    path = NAMED / joined.namespace
    if joined.container and path.is_symlink():
        yield Step((f"- name {joined.namespace} of a container's namespace",), path.unlink)
    elif joined.made and path.exists() and not path.is_symlink():
        yield removal(joined.namespace)


def unplug(bridge_end: str) -> Step:
    """Return what takes a cable away, both ends at once."""
    return Step((f"- cable {bridge_end}",), partial(commands.batch, [f"link del dev {bridge_end}"]))


def removal(namespace: str) -> Step:
    """Return what takes a namespace of ours away, with everybody in it."""
    return Step((f"- namespace {namespace}",), partial(_remove_namespace, namespace))


def marked_namespaces(mark: str) -> set[str]:
    """Return the namespaces that carry our mark."""
    names = [path.name for path in NAMED.iterdir()] if NAMED.is_dir() else []
    return {
        name
        for name in names
        if not (NAMED / name).is_symlink()
        and kernel.present(name)
        and kernel.identity(name) != kernel.own_identity()
        and kernel.links(name)["lo"].ifalias == mark
    }


def _remove_namespace(name: str) -> None:
    """End who still lives in it, or it would stay on without a name; then remove it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in kernel.inhabitants(name):
            if pid != os.getpid():
                _end(pid, number)
    commands.run("ip", "netns", "del", name)


def _end(pid: int, number: signal.Signals) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)
        kernel.readable(handle, _LEAVE_S)  # a process's descriptor is readable once it has ended
    finally:
        os.close(handle)
