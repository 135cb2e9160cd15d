"""Mode and settings in, the classifier that answers for new cells out."""

from collections.abc import Callable
from pathlib import Path

from ids_appliance import assemble
from ids_appliance.classify.bundle import load_bundle
from ids_appliance.classify.fallback import FallbackClassifier
from ids_appliance.classify.jsonlink import JsonClassifier
from ids_appliance.classify.local import LocalClassifier
from ids_appliance.classify.remote import LinkOptions, RemoteClassifier
from ids_appliance.classify.tls import TlsFiles
from ids_appliance.config import Config, Node
from ids_appliance.config_file import host_port
from ids_appliance.errors import ConfigError
from ids_appliance.types import Classifier

START_S = 2.0
"""How long a node may take to be reached at start, where nobody can stand in for it."""
NODE_S = 1.0
"""How long it is waited for where the forest here can: it takes over as soon as it is there."""


def build(config: Config, mode: str, wake: Callable[[], None]) -> Classifier:
    """Return the classifier of a mode. `wake` is called when a node has answered.

    With on_classifier_down = "local" the gateway starts whether a node is there or not; otherwise
    it must be reached once, because its model says how packets are encoded.
    Raises BundleError, LinkError, ConfigError (the mode's settings are missing).
    """
    if mode == "gateway-only":
        if not config.model:
            raise ConfigError('mode "gateway-only" needs a model: set model = "BUNDLE"')
        return assemble.local_classifier(Path(config.model))
    if not config.node.addresses:
        raise ConfigError('mode "offloaded" needs a node: set node.addresses')
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


def link_options(node: Node, *, bare: bool) -> LinkOptions:
    """Return how to reach the node; `bare`: ask for verdicts only, as published."""
    tls = None
    if not node.plaintext:
        crl = Path(node.crl) if node.crl else None
        tls = TlsFiles(cert=Path(node.cert), key=Path(node.key), ca=Path(node.ca), crl=crl)
    return LinkOptions(tls=tls, deadline_s=node.deadline_s, wait_s=START_S, bare_verdicts=bare)


def down(classifier: Classifier) -> bool:
    """Say whether the node that should judge is known not to."""
    if isinstance(classifier, FallbackClassifier):
        return classifier.down
    return isinstance(classifier, RemoteClassifier) and not classifier.connected
