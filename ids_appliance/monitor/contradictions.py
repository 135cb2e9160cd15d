"""A monitor's settings in, what cannot be meant by them out: one line each."""

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Final

from ids_appliance.config_file import texts
from ids_appliance.monitor.settings import Host, Mirror, Monitor

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_SOCKET_BYTES: Final = 85
"""A socket's path has 107 at most (unix(7)); the watchdog's has 22 more than this."""
_GROUP: Final = frozenset({"tcp", "ssl"})
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


def contradictions(monitor: Monitor) -> list[str]:
    """Return what is wrong, in the order of the file; empty if all is well."""
    return list(_all(monitor))


def _all(monitor: Monitor) -> Iterator[str]:
    yield from _named("name", monitor.name)
    for place, value in (("run_dir", monitor.run_dir), ("ovs_run_dir", monitor.ovs_run_dir)):
        if value and not value.startswith("/"):
            yield f"{place} = {value!r}: write the whole path, from / on"
    if not monitor.run_dir:
        yield "run_dir is empty: what was made could not be taken away again after a crash"
    if len(f"{monitor.run_dir}/{monitor.name}".encode()) > _SOCKET_BYTES:
        yield f"run_dir = {monitor.run_dir!r} is too long for a socket: at most 80 characters"
    yield from _interface("bridge.name", monitor.bridge.name)
    if not monitor.bridge.protocols:
        yield "bridge.protocols is empty: at least one version of OpenFlow is needed"
    yield from _controller(monitor)
    if monitor.uplink.interface:
        yield from _interface("uplink.interface", monitor.uplink.interface)
    for number, host in enumerate(monitor.hosts):
        yield from _host(f"hosts[{number}]", host)
    yield from _used_twice(monitor)
    yield from _addresses(monitor)
    for number, mirror in enumerate(monitor.mirrors):
        yield from _mirror(f"mirrors[{number}]", mirror, monitor)


def _controller(monitor: Monitor) -> Iterator[str]:
    connect = monitor.controller.connect
    if connect in {"", "embedded"}:
        if not connect and monitor.bridge.fail_mode == "secure":
            yield (
                'bridge.fail_mode = "secure" without a controller forwards nothing at all: '
                'set controller.connect, or fail_mode = "standalone"'
            )
        return
    kind, _, rest = connect.partition(":")
    if kind not in _GROUP:
        yield (
            f"controller.connect = {connect!r}: expected embedded, tcp:HOST:PORT or ssl:HOST:PORT"
        )
        return
    try:
        host, _ = texts.host_port(rest)
        ipaddress.ip_address(host)
    except ValueError:
        # Open vSwitch itself wants an address: it resolves names only where unbound is built in.
        yield f"controller.connect = {connect!r}: expected {kind}:ADDRESS:PORT, ADDRESS in numbers"


def _host(place: str, host: Host) -> Iterator[str]:
    yield from _named(f"{place}.name", host.name)
    for key, value in (
        ("bridge_end", host.bridge_end),
        ("host_end", host.host_end),
        ("inside", host.inside),
    ):
        yield from _interface(f"{place}.{key}", value)
    if host.inside == "lo":
        yield f'{place}.inside = "lo": every namespace has one already, choose another name'
    if bool(host.namespace) == bool(host.container):
        yield f"{place} ({host.name}): give either namespace or container, and not both"
    for key, value in (("namespace", host.namespace), ("container", host.container)):
        if value:
            yield from _named(f"{place}.{key}", value)
    if host.mac:
        yield from _refused(f"{place}.mac", texts.mac, host.mac)


def _mirror(place: str, mirror: Mirror, monitor: Monitor) -> Iterator[str]:
    yield from _named(f"{place}.name", mirror.name)
    known = set(port_names(monitor)) | {host.name for host in monitor.hosts}
    for key, values in (
        ("source", mirror.source),
        ("destination", mirror.destination),
        ("output", (mirror.output,)),
    ):
        for value in values:
            if value not in known:
                yield (
                    f"{place}.{key}: {value!r} is neither a host nor a port of the bridge: "
                    f"there are {', '.join(sorted(known))}"
                )
    selected = {port_of(monitor, one) for one in (*mirror.source, *mirror.destination)}
    if mirror.all and selected:
        yield f"{place} ({mirror.name}): all = true has every port already: leave the lists away"
    if not mirror.all and not selected:
        yield f"{place} ({mirror.name}) selects nothing: give source, destination or all = true"
    output = port_of(monitor, mirror.output)
    if output in selected:
        yield f"{place} ({mirror.name}): {mirror.output!r} would mirror to itself"
    if output == monitor.bridge.name or output == monitor.uplink.interface:
        yield (
            f"{place}.output = {mirror.output!r}: an output port carries nothing but copies, and "
            "this one carries the machine's own traffic"
        )


def _used_twice(monitor: Monitor) -> Iterator[str]:
    hosts, uplink = monitor.hosts, monitor.uplink.interface
    links = [monitor.bridge.name, *([uplink] if uplink else [])]
    links += [end for host in hosts for end in (host.bridge_end, host.host_end)]
    inside = [f"{host.inside} in {host.namespace or host.container}" for host in hosts]
    for what, names in (
        ("interface", links),
        ("host", [host.name for host in hosts]),
        ("interface", inside),
        ("mirror", [mirror.name for mirror in monitor.mirrors]),
        ("MAC", [host.mac.lower() for host in hosts if host.mac]),
    ):
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"{what} {name!r} is there twice: each needs a name of its own"
    outputs = [port_of(monitor, mirror.output) for mirror in monitor.mirrors]
    for port in sorted(set(outputs)):
        for mirror in monitor.mirrors:
            if port in {port_of(monitor, one) for one in (*mirror.source, *mirror.destination)}:
                if port_of(monitor, mirror.output) != port:
                    yield f"mirror {mirror.name!r} selects {port!r}, which is another one's output"


def _addresses(monitor: Monitor) -> Iterator[str]:
    seen: dict[tuple[str, int], str] = {}
    places = [("bridge.addresses", "the bridge", 0, monitor.bridge.addresses)]
    places += [
        (f"hosts[{n}].addresses", host.name, host.vlan, host.addresses)
        for n, host in enumerate(monitor.hosts)
    ]
    for place, who, vlan, values in places:
        for value in values:
            try:
                found = interface_address(value)
            except ValueError as error:
                yield f"{place}: {error}"
                continue
            key = (str(found.ip), vlan)
            if key in seen:
                yield f"{place}: {found.ip} is the address of {seen[key]} already"
            seen[key] = who


def interface_address(text: str) -> Interface:
    """Return address and length of "192.168.1.11/24". Raises ValueError."""
    if "/" not in text:
        raise ValueError(f"{text!r} has no length: write {text}/24")
    try:
        found = ipaddress.ip_interface(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not an address with its length: write 192.0.2.1/24"
        ) from None
    texts.address(str(found.ip))
    if found.version == 4 and found.network.prefixlen < 31:
        if found.ip in {found.network.network_address, found.network.broadcast_address}:
            raise ValueError(f"{text!r} is the network's own or its broadcast address")
    return found


def port_names(monitor: Monitor) -> list[str]:
    """Return the names of all ports that the bridge has by these settings, its own one first."""
    uplink = [monitor.uplink.interface] if monitor.uplink.interface else []
    return [monitor.bridge.name, *uplink, *(host.bridge_end for host in monitor.hosts)]


def port_of(monitor: Monitor, name: str) -> str:
    """Return the port that a host's or a port's name stands for."""
    return next((host.bridge_end for host in monitor.hosts if host.name == name), name)


def _interface(place: str, value: str) -> Iterator[str]:
    yield from _refused(place, texts.interface, value)


def _named(place: str, value: str) -> Iterator[str]:
    if not _NAME.fullmatch(value):
        yield f"{place} = {value!r}: expected letters, digits, '_', '-' and '.', at most 63"


def _refused(place: str, read: Callable[[str], object], value: str) -> Iterator[str]:
    try:
        read(value)
    except ValueError as error:
        yield f"{place}: {error}"
