"""Names and paths in, concrete stages out: the one place that knows which class stands for what."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ids_appliance._features import HostIdentity
from ids_appliance.capture.file import CaptureFile
from ids_appliance.capture.inline import InlineSource
from ids_appliance.capture.interfaces import capture_points, identity, offload_warning
from ids_appliance.capture.netlink import links
from ids_appliance.capture.nfqueue import QueueOptions
from ids_appliance.capture.ring import RingOptions, RingSource
from ids_appliance.capture.routed import not_routed
from ids_appliance.classify.bundle import Bundle, load_bundle
from ids_appliance.classify.local import LocalClassifier
from ids_appliance.errors import HandshakeError
from ids_appliance.types import Classifier

MAX_ROUTERS: Final = 16
"""What HostIdentity takes."""


def bundle(model: Path) -> Bundle:
    """Load a model bundle. Raises BundleError."""
    return load_bundle(model)


def local_classifier(model: Path) -> LocalClassifier:
    """Judge on this machine. Raises BundleError."""
    return LocalClassifier(load_bundle(model))


def check_same_model(classifier: Classifier, model: Path) -> None:
    """Refuse a node whose model is not the bundle that was named. Raises HandshakeError."""
    here = load_bundle(model).grid.model_id
    there = classifier.grid.model_id
    if here != there:
        raise HandshakeError(
            f"the node judges with model {there.hex()}, not with {model} ({here.hex()}): "
            f"give the node that bundle, or leave --model away to follow the node"
        )


def capture_file(path: str) -> CaptureFile:
    """Open a capture file. Raises CaptureError."""
    return CaptureFile(path)


@dataclass(frozen=True, slots=True)
class Queued:
    """A packet queue before the forwarding, beside the rings."""

    options: QueueOptions
    clock_ns: Callable[[], int]
    """Nanoseconds since the epoch."""
    above: Callable[[], Sequence[tuple[str, str]]]
    """(bridge or VLAN, captured port under it): where routed packets are met."""


@dataclass(frozen=True, slots=True)
class Live:
    """A live source, and who the gateway is on its interfaces (asked again when they change)."""

    source: RingSource | InlineSource
    names: tuple[str, ...]
    """What is captured: a bridge stands for its ports."""
    host: Callable[[], HostIdentity]
    """Who the gateway is on those of them that exist at the moment. Raises InterfaceError where
    one goes away meanwhile, which is a change of its own."""
    warnings: tuple[str, ...]
    """What people should know about the interfaces, one line each."""


def live(
    interfaces: Sequence[str],
    options: RingOptions | None = None,
    *,
    on_event: Callable[[str], None] | None = None,
    routers: Callable[[], Sequence[bytes]] = tuple,
    inline: Queued | None = None,
) -> Live:
    """Open the capture points. `routers` is asked each time for the MACs of those who forward on
    the protected side. inline: what is routed is held until it has a verdict.

    Raises InterfaceError, PermissionMissing, InlineError."""
    names = capture_points(interfaces)
    taps = options.taps if options is not None else ()
    warnings = [w for w in map(offload_warning, names) if w is not None]
    if left_out := identity(names, taps=taps).left_out:
        warnings.append(
            f"this machine has {left_out} MACs and addresses too many: "
            "frames it sends from those count as somebody else's"
        )

    source: RingSource | InlineSource
    if inline is None:
        source = RingSource(names, options, on_event=on_event)
    else:
        ring = RingSource(names, options, timeout_s=0.0, on_event=on_event)
        try:
            source = InlineSource(ring, inline.options, clock_ns=inline.clock_ns)
        except BaseException:
            ring.close()
            raise

    def host() -> HostIdentity:
        table = links()
        there = {link.name for link in table.values()}
        found = identity([name for name in names if name in there], taps=taps)
        if inline is not None and isinstance(source, InlineSource):
            source.know(table, [*((name, name) for name in names), *inline.above()])
            source.set_filter(not_routed(found))
        return HostIdentity(
            found.macs,
            found.addresses,
            all_ports=found.all_ports,
            routers=routers()[:MAX_ROUTERS],
            networks=found.networks,
        )

    return Live(source, names, host, tuple(warnings))
