"""Mode and settings in, the classifier that answers for new cells out."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ids_appliance import assemble
from ids_appliance.classify.bundle import load_bundle
from ids_appliance.classify.fallback import FallbackClassifier
from ids_appliance.classify.local import LocalClassifier
from ids_appliance.config import Config, Node
from ids_appliance.config_file import host_port
from ids_appliance.errors import ConfigError
from ids_appliance.types import Classifier

if TYPE_CHECKING:
    from ids_appliance.classify.remote import LinkOptions

START_S = 2.0
"""How long a node may take to be reached at start, where nobody can stand in for it."""
NODE_S = 1.0
"""How long it is waited for where the forest here can: it takes over as soon as it is there."""


@runtime_checkable
class _Linked(Protocol):
    @property
    def connected(self) -> bool: ...


@runtime_checkable
class _Reaching(Protocol):
    @property
    def reached(self) -> tuple[bytes, ...]: ...

    @property
    def trouble(self) -> str: ...


def build(config: Config, mode: str, wake: Callable[[], None]) -> Classifier:
    """Return the classifier of a mode. `wake` is called when a node has answered.

    With on_classifier_down = "local" the gateway starts whether a node is there or not; otherwise
    it must be reached once, because its model says how packets are encoded.
    Raises BundleError, LinkError, ConfigError (the mode's settings are missing).
    """
    if config.node.addresses:
        # Now, not while packets wait for a change of mode; without a node never: asyncio and TLS
        # take megabytes.
        importlib.import_module("ids_appliance.classify.jsonlink")
    if mode == "gateway-only":
        if not config.model:
            raise ConfigError('mode "gateway-only" needs a model: set model = "BUNDLE"')
        return assemble.local_classifier(Path(config.model))
    if not config.node.addresses:
        raise ConfigError('mode "offloaded" needs a node: set node.addresses')
    return _linked(config, wake)


def _linked(config: Config, wake: Callable[[], None]) -> Classifier:
    from ids_appliance.classify.jsonlink import JsonClassifier  # noqa: PLC0415 - as in `build`
    from ids_appliance.classify.remote import RemoteClassifier  # noqa: PLC0415

    policy = config.failure.on_classifier_down
    nodes = [host_port(text) for text in config.node.addresses]
    kind = JsonClassifier if config.node.transport == "json" else RemoteClassifier
    options = link_options(config.node, bare=config.profile == "paper")
    if policy != "local":
        remote: RemoteClassifier = kind.connect(nodes, options)
        remote.on_answer(wake)
        return remote
    bundle = load_bundle(Path(config.model))
    remote = kind.start(nodes, options)
    remote.on_answer(wake)
    remote.await_node(NODE_S)
    return FallbackClassifier(remote, LocalClassifier(bundle), policy="local")


def link_options(node: Node, *, bare: bool) -> "LinkOptions":
    """Return how to reach the node; `bare`: ask for verdicts only, as published."""
    from ids_appliance.classify.remote import LinkOptions  # noqa: PLC0415 - as in `build`
    from ids_appliance.classify.tls import TlsFiles  # noqa: PLC0415

    tls = None
    if not node.plaintext:
        crl = Path(node.crl) if node.crl else None
        tls = TlsFiles(cert=Path(node.cert), key=Path(node.key), ca=Path(node.ca), crl=crl)
    return LinkOptions(tls=tls, deadline_s=node.deadline_s, wait_s=START_S, bare_verdicts=bare)


def down(classifier: Classifier) -> bool:
    """Say whether the node that should judge is known not to."""
    if isinstance(classifier, FallbackClassifier):
        return classifier.down
    return isinstance(classifier, _Linked) and not classifier.connected


def reached(classifier: Classifier) -> tuple[bytes, ...]:
    """Return the addresses of the nodes that were found so far: of one that is named by a host
    name, nobody else knows it."""
    return classifier.reached if isinstance(classifier, _Reaching) else ()


def complaint(classifier: Classifier, policy: str) -> str:
    """Return for people that no node answers, what happens meanwhile, and why as far as is known:
    a certificate that has expired looks like a node that is gone."""
    why = classifier.trouble if isinstance(classifier, _Reaching) else ""
    said = f"the node does not answer (on_classifier_down: {policy})"
    return f"{said}: {why}" if why else said
