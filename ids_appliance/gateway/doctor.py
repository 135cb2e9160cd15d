"""A configuration in, findings out: whether this machine can run it, and what to do where not.

Nothing is changed, and nothing raises for what it finds. Beside what `gateway.machine` says about
the machine itself.
"""

import ipaddress
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from ids_appliance.capture.interfaces import capture_points, find, offload_warning
from ids_appliance.capture.netlink import links
from ids_appliance.classify.bundle import load_bundle
from ids_appliance.classify.jsonlink import JsonClassifier
from ids_appliance.classify.remote import LinkOptions, RemoteClassifier
from ids_appliance.classify.tls import TlsFiles, client_context
from ids_appliance.config import Config
from ids_appliance.config_file import host_port
from ids_appliance.config_file.texts import network_at
from ids_appliance.enforce.openflow_switch import Switch
from ids_appliance.errors import BoundsError, BundleError, CertificateError, EnforceError, IdsError
from ids_appliance.gateway import doctor_zeek
from ids_appliance.gateway.doctor_dashboard import dashboard
from ids_appliance.gateway.doctor_inline import inline
from ids_appliance.gateway.doctor_outward import outward
from ids_appliance.gateway.machine import RESIDENT_KIB, Finding, State, memory
from ids_appliance.gateway.surroundings import look
from ids_appliance.policy.bounds import doubts, read_bounds

CONNECT_S: Final = 3.0
EXPIRY_DAYS: Final = 14
"""A certificate that ends sooner is worth a warning."""
RESERVE_BYTES: Final = 16 << 20
"""Room for decisions and the rest of state_dir, beside the event log."""


def examine(config: Config, wall_s: float) -> Iterator[Finding]:
    """Yield what there is to say about a configuration on this machine."""
    ports: list[Finding] = list(interfaces(config))
    yield from ports
    yield forwarding(config)
    ring_kib = config.ring.mib * 1024  # one, for all interfaces
    meminfo = Path("/proc/meminfo").read_text("ascii", "replace")
    yield memory(meminfo, RESIDENT_KIB + ring_kib)
    if config.enforce.backend == "openflow":
        yield switch(config)
    yield from inline(config)
    yield from doctor_zeek.examine(config, wall_s)
    yield from disk(config)
    yield from model(config)
    if config.mode == "offloaded" or config.node.addresses:
        yield from certificates(config, wall_s)
        yield from nodes(config)
    yield from outward(config)
    yield from dashboard(config)
    yield from secrets(config)
    yield from protected(config)
    yield from settings(config)


def interfaces(config: Config) -> Iterator[Finding]:
    """Look at what would be captured: there, up, offloads, ports of bridges."""
    try:
        names = capture_points(config.interfaces)
        table = links()
        found = [find(name, table) for name in names]
    except IdsError as error:
        yield Finding("interface", "fail", str(error), "correct `interfaces`, or create it first")
        return
    except OSError as error:
        yield Finding("interface", "unknown", f"could not be looked at: {error.strerror}")
        return
    for link in found:
        of = f" of {table[link.master].name}" if link.master in table else ""
        what = f"{link.name} ({link.kind or 'hardware'}{of})"
        if not link.up:
            yield Finding("interface", "warn", f"{what} is down", f"ip link set {link.name} up")
        elif warning := _offloads(link.name):
            text, _, remedy = warning.partition("; to switch that off: ")
            yield Finding("interface", "warn", text, remedy)
        else:
            yield Finding("interface", "ok", f"{what} is up, no offloads that join packets")


def _offloads(name: str) -> str | None:
    try:
        return offload_warning(name)
    except (IdsError, OSError):
        return None  # gone meanwhile, or not to be asked here


def forwarding(config: Config) -> Finding:
    """Look whether traffic passes this machine at all."""
    if {*config.interfaces} <= {*config.taps}:
        return Finding("forwarding", "ok", "not needed: mirror ports bring copies")
    try:
        table = links()
        bridged = [name for name in config.interfaces if find(name, table).kind == "bridge"]
        bridged += [n for n in config.interfaces if find(n, table).master]
    except (IdsError, OSError):
        return Finding("forwarding", "unknown", "could not be looked at without the interfaces")
    if bridged:
        return Finding("forwarding", "ok", f"bridged by {bridged[0]}")
    switches = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")
    on = [s.partition("/")[0] for s in switches if _sysctl(f"net/{s}") == "1"]
    if on:
        return Finding("forwarding", "ok", f"{' and '.join(on)} routed")
    return Finding(
        "forwarding",
        "warn",
        "this machine forwards nothing: only traffic to and from itself would be seen",
        "sysctl -w net.ipv4.ip_forward=1, or put the interfaces into a bridge",
    )


def switch(config: Config) -> Finding:
    """Ask the bridge whose flow entries would act."""
    settings = config.enforce.openflow
    name = settings.bridge or settings.target
    try:
        asked = Switch(settings)
        ports, meters, (opens, _) = asked.ports(), asked.meters(), asked.opens()
    except EnforceError as error:
        remedy = "start Open vSwitch, or correct enforce.openflow; `ovs-vsctl show` lists bridges"
        return Finding("openflow", "fail", str(error), remedy)
    if missing := [port for port in settings.uplinks if port not in ports]:
        line = f"bridge {name} has no port {missing[0]!r}"
        return Finding("openflow", "warn", line, "correct enforce.openflow.uplinks")
    if opens:
        line = f"bridge {name} forwards everything while its controller is away"
        return Finding("openflow", "warn", line, f"ovs-vsctl set-fail-mode {name} secure")
    if settings.cut == "port" and not settings.uplinks:
        line = f"bridge {name}: any of its {len(ports)} ports may be cut as a whole"
        return Finding("openflow", "warn", line, "name the shared ones: enforce.openflow.uplinks")
    return Finding("openflow", "ok", f"bridge {name}: {len(ports)} ports, {len(meters)} meters")


def disk(config: Config) -> Iterator[Finding]:
    """Look whether state_dir and run_dir can be written, and have room."""
    log = int(config.events.rotate_mib * (1 << 20)) * (config.events.keep + 1)
    for topic, name, need in (
        ("state_dir", config.state_dir, RESERVE_BYTES + (0 if config.events.file else log)),
        ("run_dir", config.run_dir, 1 << 20),
    ):
        yield _directory(topic, Path(name), need)
    if config.events.file.startswith("/"):
        yield _directory("events.file", Path(config.events.file).parent, log)


def _directory(topic: str, path: Path, need: int) -> Finding:
    there = path
    try:
        while not there.exists():
            there = there.parent
        if not stat.S_ISDIR(there.stat().st_mode):
            return Finding(topic, "fail", f"{there} is not a directory", f"choose another {topic}")
        usage = os.statvfs(there)
    except OSError as error:
        return Finding(topic, "unknown", f"{path}: {(error.strerror or str(error)).lower()}")
    if not os.access(there, os.W_OK | os.X_OK):
        whose = "this user may not write there"
        return Finding(topic, "warn", f"{path}: {whose}", "run this as the gateway runs")
    free = usage.f_bavail * usage.f_frsize
    text = f"{path}: {free >> 20:,} MiB free, up to {need >> 20:,} MiB needed"
    if free < need or (usage.f_files and not usage.f_favail):
        state: State = "fail" if free < 1 << 20 else "warn"
        return Finding(topic, state, text, "make room, or lower events.rotate_mib and events.keep")
    return Finding(topic, "ok", text if there == path else f"{text}; it will be made")


def model(config: Config) -> Iterator[Finding]:
    """Read the model and the bounds."""
    model_id = None
    if config.model:
        try:
            bundle = load_bundle(config.model)
        except BundleError as error:
            yield Finding("model", "fail", str(error), "copy the bundle again, or train one")
        else:
            model_id = bundle.grid.model_id
            n = len(bundle.grid.features)
            yield Finding("model", "ok", f"{config.model}: {n} features, id {model_id.hex()}")
    if config.policy.kind == "per_packet":
        return
    try:
        bounds = read_bounds(config.policy.bounds)
    except BoundsError as error:
        yield Finding("bounds", "fail", str(error), "run `ids-appliance calibrate`")
        return
    found = doubts(bounds, config.policy, model_id)
    for line in found:
        yield Finding("bounds", "warn", line)
    if not found:
        rate = f"{bounds.false_alarms:.2%} of {bounds.senders} ordinary senders"
        yield Finding("bounds", "ok", f"a decision at {bounds.upper:g}: {rate}")


def tls_files(config: Config) -> TlsFiles | None:
    """Return the files of the link, None for plain TCP."""
    node = config.node
    if node.plaintext or not node.cert:
        return None
    crl = Path(node.crl) if node.crl else None
    return TlsFiles(Path(node.cert), Path(node.key), Path(node.ca), crl)


def certificates(config: Config, wall_s: float) -> Iterator[Finding]:
    """Read our certificate, key, authority and revocation list, and how long they are good."""
    files = tls_files(config)
    if files is None:
        text = "plain TCP: whoever is on the way to the node may read and answer"
        yield Finding("certificate", "warn", text, "ids-appliance certs, then set node.cert, ...")
        return
    try:
        client_context(files)
        ends = [(files.cert, _ends(files.cert)), (files.ca, _ends(files.ca))]
        if files.crl is not None:
            ends.append((files.crl, _list_ends(files.crl)))
    except (CertificateError, OSError, ValueError) as error:
        yield Finding("certificate", "fail", str(error), "ids-appliance certs issue")
        return
    for path, end in ends:
        days = (end.timestamp() - wall_s) / 86400
        text = f"{path}: good for {days:.0f} days, until {end:%Y-%m-%d}"
        if days < 0:
            yield Finding("certificate", "fail", f"{path} has expired {end:%Y-%m-%d}", "renew it")
        elif days < EXPIRY_DAYS:
            yield Finding("certificate", "warn", text, "renew it; no restart is needed")
        else:
            yield Finding("certificate", "ok", text)


def _ends(path: Path) -> datetime:
    return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc


def _list_ends(path: Path) -> datetime:
    end = x509.load_pem_x509_crl(path.read_bytes()).next_update_utc
    return end if end is not None else datetime.max.replace(tzinfo=UTC)


def nodes(config: Config) -> Iterator[Finding]:
    """Reach each node as the gateway would, handshake and model included."""
    state: State = "fail"
    if config.mode != "offloaded" or config.failure.on_classifier_down == "local":
        state = "warn"  # the gateway works without
    kind = JsonClassifier if config.node.transport == "json" else RemoteClassifier
    options = LinkOptions(
        tls=tls_files(config), deadline_s=config.node.deadline_s, connect_timeout_s=CONNECT_S
    )
    for address in config.node.addresses:
        try:
            with kind.connect([host_port(address)], options) as link:
                there = link.grid.model_id
        except IdsError as error:
            yield Finding("node", state, f"{address}: {error}", "start it, or correct [node]")
            continue
        yield Finding("node", "ok", f"{address}: judges with model {there.hex()}")
        if config.model and _model_id(config.model) not in (there, None):
            yield Finding(
                "node",
                "warn",
                f"{address}: not the model that stands in here when the node fails",
                "give both the same bundle",
            )


def _model_id(path: str) -> bytes | None:
    try:
        return load_bundle(path).grid.model_id
    except BundleError:
        return None


def protected(config: Config) -> Iterator[Finding]:
    """Look for IPv6 addresses on the protected side: whose they are nobody there is seen to say, as
    ARP does for IPv4, so they keep nobody from being cut off whose latest packet had another."""
    try:
        found = look(config)
    except (IdsError, OSError):
        return  # said of the interfaces already
    inside = {*found.captured, *(upper for _, upper in found.above)}
    here = [ipaddress.ip_network((at, prefix), strict=False) for _, at, prefix in found.networks]
    for text in (*config.protect.administrators, *config.protect.addresses):
        network, interface = network_at(text)
        there = interface in inside if interface else any(map(network.overlaps, here))
        if network.version == 6 and there:
            line = f"protect: on the protected side {text} alone protects nobody for certain"
            yield Finding("settings", "warn", line, "name MAC@INTERFACE in protect.macs as well")


def secrets(config: Config) -> Iterator[Finding]:
    """Look who may read keys, tokens and passwords; nothing where only their owners may."""
    webhook, mqtt = config.notices.webhook, config.notices.mqtt
    names = (config.node.key, config.enforce.openflow.key)
    for name in (*names, webhook.url_file, webhook.token_file, mqtt.password_file):
        try:
            mode = stat.S_IMODE(os.stat(name).st_mode) if name else 0
        except OSError:
            continue  # who needs it says so
        if mode & 0o027:  # a group may be the service's own
            line = f"{name}: others may read or change it (mode {mode:03o})"
            yield Finding("secrets", "warn", line, f"chmod 600 {name}")


def settings(config: Config) -> Iterator[Finding]:
    """Point to settings that are allowed and still worth a thought."""
    if config.enforce.enabled and not config.protect.administrators:
        yield Finding(
            "settings",
            "warn",
            "protect.administrators is empty while decisions are enforced",
            "name the network you log in from, so that nobody locks you out",
        )
    if not config.enforce.enabled:
        yield Finding("settings", "ok", "enforce.enabled = false: only observes")
    if config.metrics.listen and not _loopback(host_port(config.metrics.listen)[0]):
        yield Finding(
            "settings",
            "warn",
            f"metrics.listen = {config.metrics.listen}: readable by whoever reaches it",
            "listen at 127.0.0.1, or keep others out by your firewall",
        )
    who = f"group {config.group}" if config.group else "root alone"
    yield Finding("settings", "ok", f"the read socket is for {who}")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _sysctl(name: str) -> str:
    try:
        return Path("/proc/sys", name).read_text("ascii").strip()
    except OSError:
        return ""
