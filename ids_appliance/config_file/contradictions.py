"""A configuration of good types in, what cannot be meant by it out: one line each, all of them."""

import difflib
import grp
import re
from collections.abc import Callable, Iterable, Iterator

from ids_appliance.config import Config
from ids_appliance.config.priorities import rate
from ids_appliance.config_file import paper, texts

MOST_NUMBERS = 65_536
"""Queues of a kernel's network namespace, 0 .. 65535."""


def contradictions(config: Config) -> list[str]:
    """Return what is wrong with a configuration although every value has its type and range.

    Looks at the machine for one thing only: whether `group` exists.
    """
    checks = (
        _top,
        _texts,
        _trigger,
        _window,
        _policy,
        _enforce,
        _tc,
        _inline,
        _notices,
        _classifier,
    )
    return [line for check in checks for line in check(config)]


def _refused(place: str, values: Iterable[str], read: Callable[[str], object]) -> Iterator[str]:
    """Yield what is wrong with the texts of a list: refused by `read`, or there twice."""
    seen = set()
    for value in values:
        try:
            found = read(value)
        except ValueError as error:
            yield f"{place}: {error}"
            continue
        if found in seen:
            yield f"{place}: {value!r} is there twice"
        seen.add(found)


def _top(config: Config) -> Iterator[str]:
    if not config.interfaces:
        yield "interfaces is empty: name the interfaces towards the devices to protect"
    yield from _refused("interfaces", config.interfaces, texts.interface)
    yield from _refused("taps", config.taps, texts.interface)
    for tap in config.taps:
        if tap not in config.interfaces:
            yield f"taps: {tap!r} is not among `interfaces`"
    if config.taps and {*config.interfaces} <= {*config.taps}:
        if config.enforce.backend == "nftables":
            yield (
                "taps: nothing passes this machine there, so nftables has nothing to act on: set "
                'enforce.backend = "openflow" or "dry-run"'
            )
    for place, path in (("state_dir", config.state_dir), ("run_dir", config.run_dir)):
        if not path.startswith("/") or "\0" in path:
            yield f"{place} = {path!r}: an absolute path is expected"
    if config.group:
        try:
            grp.getgrnam(config.group)
        except KeyError:
            groups = [entry.gr_name for entry in grp.getgrall()]
            near = difflib.get_close_matches(config.group, groups, n=1)
            hint = f"did you mean {near[0]!r}" if near else f"groupadd --system {config.group}"
            yield f"group = {config.group!r}: there is no such group; {hint}"


def _texts(config: Config) -> Iterator[str]:
    protect = config.protect
    yield from _refused("routers", config.routers, texts.mac)
    yield from _refused("protect.administrators", protect.administrators, texts.network_at)
    yield from _refused("protect.addresses", protect.addresses, texts.address_at)
    yield from _refused("protect.macs", protect.macs, texts.mac_at)
    yield from _refused("names", config.names, texts.device)
    yield from _refused("names", set(config.names.values()), texts.label)
    if config.metrics.listen:
        yield from _refused("metrics.listen", [config.metrics.listen], texts.host_port)
    if config.leases and not config.leases.startswith("/"):
        yield f'leases = {config.leases!r}: an absolute path or "" is expected'
    file = config.events.file
    if file not in ("", "-") and not file.startswith("/"):
        yield f'events.file = {file!r}: an absolute path, "-" or "" is expected'


def _trigger(config: Config) -> Iterator[str]:
    trigger = config.trigger
    if not config.zeek.log.startswith("/") or "\0" in config.zeek.log:
        yield f"zeek.log = {config.zeek.log!r}: an absolute path is expected"
    yield from _refused("trigger.bindings", trigger.bindings, texts.address)
    for text in trigger.bindings:
        if ":" in text:
            yield f"trigger.bindings: {text!r}: bindings are IPv4 address -> MAC"
    yield from _refused("trigger.bindings", set(trigger.bindings.values()), texts.mac)
    if trigger.slow_scan.enabled and trigger.slow_scan.window_s <= trigger.rule_window_s:
        yield "trigger.slow_scan.window_s has to be longer than trigger.rule_window_s"
    for rule in paper.RULES:
        section = getattr(trigger, rule)
        if section.enabled and getattr(section, "count", 1) == 0:
            yield f"trigger.{rule}.count = 0 fires on everything: at least 1 is expected"
    if trigger.no_answer_s > trigger.rule_window_s:
        yield "trigger.no_answer_s has to be at most trigger.rule_window_s"


def _window(config: Config) -> Iterator[str]:
    window = config.window
    if window.window_s > window.max_window_s:
        yield "window.window_s has to be at most window.max_window_s"
    if 0 < window.sample_every_s <= window.sample_s:
        yield "window.sample_s has to be shorter than window.sample_every_s"


def _policy(config: Config) -> Iterator[str]:
    policy = config.policy
    known = (*paper.RULES, *paper.OTHER_CAUSES)
    for rule in policy.priors:
        if rule not in known:
            near = difflib.get_close_matches(rule, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}" if near else f"there are {', '.join(known)}"
            yield f"policy.priors: there is no rule {rule!r}: {hint}"
    if not policy.durations_s:
        yield "policy.durations_s is empty: at least one duration is expected"
    if list(policy.durations_s) != sorted(policy.durations_s):
        yield "policy.durations_s has to grow: each decision lasts at least as long as the last"


def _enforce(config: Config) -> Iterator[str]:
    enforce = config.enforce
    if enforce.ceiling == "deprioritise" and (why := _no_classes(config)):
        yield f'enforce.ceiling = "deprioritise" {why}'
    yield from _refused("enforce.ceilings", enforce.ceilings, texts.device)
    for who, ceiling in enforce.ceilings.items():
        if ceiling == "deprioritise" and (why := _no_classes(config)):
            yield f"enforce.ceilings: {who!r}: deprioritise {why}"
    yield from _openflow(config)


def _no_classes(config: Config) -> str:
    """Return why nobody can be deprioritised, "" where somebody can."""
    if config.enforce.backend == "openflow":
        return 'needs enforce.backend = "nftables": a switch has no queue for it'
    if not config.tc.rates:
        return 'needs traffic classes: name what the links carry, [tc.rates] wan0 = "18 mbit"'
    return ""


def _tc(config: Config) -> Iterator[str]:
    yield from _refused("tc.rates", config.tc.rates, texts.interface)
    for name, text in config.tc.rates.items():
        try:
            rate(text)
        except ValueError as error:
            yield f"tc.rates.{name}: {error}"


def _inline(config: Config) -> Iterator[str]:
    inline = config.inline
    if inline.queue + inline.queues > MOST_NUMBERS:
        yield (
            f"inline.queues = {inline.queues}: from {inline.queue} on there are only "
            f"{MOST_NUMBERS - inline.queue} queues; set inline.queue lower"
        )


def _notices(config: Config) -> Iterator[str]:
    webhook, mqtt, syslog = (getattr(config.notices, n) for n in ("webhook", "mqtt", "syslog"))
    if webhook.url and webhook.url_file:
        yield "notices.webhook.url and notices.webhook.url_file exclude each other"
    if webhook.url and not re.match(r"https?://[^/@\s]", webhook.url):
        yield "notices.webhook.url is no URL: write https://HOST/PATH"
    if mqtt.broker:
        yield from _refused("notices.mqtt.broker", [mqtt.broker], texts.host_port)
    if mqtt.password_file and not mqtt.user:
        yield "notices.mqtt.password_file needs notices.mqtt.user beside it"
    if mqtt.ca and not mqtt.tls:
        yield "notices.mqtt.ca needs notices.mqtt.tls = true"
    if not mqtt.topic or re.search(r"[+#\s\0]", mqtt.topic + mqtt.discovery):
        yield "notices.mqtt.topic and .discovery: words with / between them, without + # and spaces"
    if syslog.address and not syslog.address.startswith("/"):
        yield from _refused("notices.syslog.address", [syslog.address], texts.host_port)


def _openflow(config: Config) -> Iterator[str]:
    flow, chosen = config.enforce.openflow, config.enforce.backend == "openflow"
    if chosen and not (flow.bridge or flow.target):
        yield 'enforce.backend = "openflow" needs enforce.openflow.bridge, or .target elsewhere'
    if flow.bridge and flow.target:
        yield "enforce.openflow.bridge and enforce.openflow.target exclude each other"
    if flow.bridge:
        yield from _refused("enforce.openflow.bridge", [flow.bridge], texts.interface)
    if flow.target and not re.fullmatch(r"(tcp|ssl):[\w.\[\]:-]+:\d+|unix:/\S+", flow.target):
        yield (
            f"enforce.openflow.target = {flow.target!r}: tcp:HOST:PORT, ssl:HOST:PORT or unix:PATH "
            "is expected"
        )
    yield from _refused("enforce.openflow.uplinks", flow.uplinks, texts.interface)
    if flow.target.startswith("ssl:") and not (flow.cert and flow.key and flow.ca):
        yield "enforce.openflow.target = ssl:... needs enforce.openflow.cert, key and ca beside it"


def _classifier(config: Config) -> Iterator[str]:
    node, down = config.node, config.failure.on_classifier_down
    tls = {name: getattr(node, name) for name in ("cert", "key", "ca", "crl")}
    given = [name for name, value in tls.items() if value]
    if node.plaintext and given:
        yield f"node.plaintext and certificates (node.{given[0]}) exclude each other"
    elif given and not (node.cert and node.key and node.ca):
        missing = next(name for name in ("cert", "key", "ca") if not tls[name])
        yield f"node.{given[0]} needs node.{missing} beside it: TLS takes cert, key and ca"
    yield from _refused("node.addresses", node.addresses, texts.host_port)
    if len(set(config.failure.on_overload)) != len(config.failure.on_overload):
        yield "failure.on_overload names somebody twice"
    if config.mode == "gateway-only":
        if not config.model:
            yield 'mode = "gateway-only" needs a model: model = "models/iot-top20"'
        return
    if not node.addresses:
        yield 'mode = "offloaded" needs node.addresses: [node] addresses = ["HOST:PORT"]'
    if not node.plaintext and not given:
        yield (
            'mode = "offloaded" needs node.cert, node.key and node.ca, '
            "or node.plaintext = true for TCP without TLS"
        )
    if down == "local" and not config.model:
        yield (
            'failure.on_classifier_down = "local" needs a model: '
            'give one, or use "open" or "closed"'
        )
