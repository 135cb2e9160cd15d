"""The configuration: every section, its settings, their defaults and what they mean.

Sections are frozen msgspec structs, so that a value of the wrong type or an unknown key is refused
with its place. Stages take their own section as it stands here; nobody else holds a default.
"""

from typing import Literal

import msgspec

Seconds = float
Response = Literal["observe", "deprioritise", "rate_limit", "quarantine"]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all sections share."""


class Dos(Section, frozen=True, forbid_unknown_fields=True):
    """SYNs to one (destination, port) without handshakes."""

    enabled: bool = True
    syns: int = 500
    handshake_ratio: float = 0.2
    """Completed handshakes / SYNs below which it fires."""


class PortScan(Section, frozen=True, forbid_unknown_fields=True):
    """One source tries many ports of one host, and mostly fails."""

    enabled: bool = True
    ports: int = 20
    failed_ratio: float = 0.8


class Mirai(Section, frozen=True, forbid_unknown_fields=True):
    """One source tries many hosts on few ports; cues: ICMP echo and ARP sweeps."""

    enabled: bool = True
    hosts: int = 20
    top_ports: int = 5
    top_ports_ratio: float = 0.9
    failed_or_brief_ratio: float = 0.8
    brief_s: Seconds = 2.0
    brief_packets: int = 5
    echo_hosts: int = 20
    arp_targets: int = 30


class ArpSpoof(Section, frozen=True, forbid_unknown_fields=True):
    """Claims against bindings, unsolicited replies, changing MACs."""

    enabled: bool = True
    unsolicited: int = 10
    mac_changes: int = 3


class Slow(Section, frozen=True, forbid_unknown_fields=True):
    """The scan rules over sixty seconds."""

    enabled: bool = False
    window_s: Seconds = 60.0
    ports: int = 40
    hosts: int = 40


class Rate(Section, frozen=True, forbid_unknown_fields=True):
    """A count per window and key above which a further rule fires; see its field in Trigger."""

    enabled: bool = False
    count: int = 0


class Trigger(Section, frozen=True, forbid_unknown_fields=True):
    """When to look closer (design: four rules, one configuration)."""

    kind: Literal["embedded", "always", "manual", "zeek"] = "embedded"
    rule_window_s: Seconds = 5.0
    no_answer_s: Seconds = 1.0
    hold_down_s: Seconds = 5.0
    """One event per (rule, key) in this time."""
    dos: Dos = Dos()
    port_scan: PortScan = PortScan()
    mirai: Mirai = Mirai()
    arp_spoof: ArpSpoof = ArpSpoof()
    slow_scan: Slow = Slow()
    connection_rate: Rate = Rate(count=500)
    """Connections and UDP exchanges that one source opens."""
    udp_rate: Rate = Rate(count=5000)
    """UDP packets to one victim."""
    icmp_rate: Rate = Rate(count=1000)
    """ICMP packets to one victim."""
    idle_connections: Rate = Rate(count=200)
    """Connections that one source holds open to one server without sending."""
    unsolicited_answers: Rate = Rate(count=500)
    """Answers to one victim that nobody asked for."""
    failed_connections: Rate = Rate(count=50)
    """Failed connections of one source to one port of one host."""
    bindings: dict[str, str] = {}
    """IPv4 address -> MAC, for what may never change (the router)."""
    max_flows: int = 65_536
    max_keys: int = 16_384
    """Keys of each rule."""
    max_senders: int = 16_384
    max_bindings: int = 4_096


class Window(Section, frozen=True, forbid_unknown_fields=True):
    """The elevated-scrutiny window."""

    window_s: Seconds = 30.0
    max_window_s: Seconds = 600.0
    sample_every_s: Seconds = 0.0
    """Look closer for `sample_s` once in this time even if nothing fired; 0 never."""
    sample_s: Seconds = 2.0
    socket_filter: bool = True
    """While closed, let the kernel pass only what the rules need."""


class Policy(Section, frozen=True, forbid_unknown_fields=True):
    """From verdicts to findings and decisions."""

    kind: Literal["sequential", "per_packet"] = "sequential"
    upper: float = 0.0
    """Sum of log-odds that makes a decision; 0: the calibrated bound of `bounds`."""
    lower: float = -8.0
    """Sum of log-odds that clears a sender."""
    clip: float = 3.0
    """Most that one packet weighs, either way."""
    cell_weight: float = 3.0
    """Packets of one cell count as at most so many witnesses in a window."""
    half_life_s: Seconds = 30.0
    bounds: str = ""
    """File written by `calibrate`; empty: the defaults that ship."""
    priors: dict[str, float] = {}
    """Rule -> log-odds with which its trigger enters; others keep their default."""
    max_senders: int = 4_096
    cells_per_sender: int = 64
    durations_s: tuple[Seconds, ...] = (600.0, 3600.0, 86_400.0, 604_800.0)
    """Of the first, second, ... decision about a sender."""
    memory_s: Seconds = 1_209_600.0
    """A sender without decisions for so long begins at the first duration again."""
    breaker_per_minute: int = 5
    breaker_lan_share: float = 0.2
    max_decisions: int = 16_384


class Enforce(Section, frozen=True, forbid_unknown_fields=True):
    """What is done to a sender."""

    enabled: bool = False
    """A fresh installation observes; `ids-appliance enforce on` is a deliberate step."""
    backend: Literal["nftables", "dry-run"] = "nftables"
    ceiling: Response = "quarantine"
    ceilings: dict[str, Response] = {}
    """Per device (MAC or address): the most that may be done to it."""
    rate_limit_pps: int = 20
    """Packets a second that a rate-limited sender may send."""
    new_flows_per_minute: int = 10
    """New connections that an unproven sender may still open."""
    synproxy: bool = True
    lan_set: int = 4_096
    wan_set: int = 16_384
    unverified_set: int = 16_384
    flood_set: int = 256
    alarm_share: float = 0.8
    reconcile_s: Seconds = 2.0
    heal_arp: bool = True
    """After an ARP spoofer is cut off, tell its victims the true binding."""


class Protect(Section, frozen=True, forbid_unknown_fields=True):
    """Who is never cut off. What the system itself needs is found at start and on changes."""

    administrators: tuple[str, ...] = ()
    """Networks (192.0.2.0/24) or NETWORK@INTERFACE."""
    addresses: tuple[str, ...] = ()
    """Further addresses, ADDRESS or ADDRESS@INTERFACE."""
    macs: tuple[str, ...] = ()
    """MAC@INTERFACE."""
    automatic: bool = True
    """Own addresses, default routers, DNS servers, the node."""


class Node(Section, frozen=True, forbid_unknown_fields=True):
    """The stronger machine that judges in mode offloaded."""

    addresses: tuple[str, ...] = ()
    cert: str = ""
    key: str = ""
    ca: str = ""
    crl: str = ""
    plaintext: bool = False
    transport: Literal["binary", "json"] = "binary"
    deadline_s: Seconds = 1.0


class Failure(Section, frozen=True, forbid_unknown_fields=True):
    """What happens when things go wrong; logged at start."""

    on_classifier_down: Literal["local", "open", "closed"] = "local"
    """local: judge here; open: packets pass unjudged; closed: what a trigger names is limited."""
    on_queue_full: Literal["open", "closed"] = "open"
    on_overload: tuple[Literal["cleared", "unnamed", "suspect"], ...] = (
        "cleared",
        "unnamed",
        "suspect",
    )
    """Whose packets are given up first."""


class Events(Section, frozen=True, forbid_unknown_fields=True):
    """The event log: one JSON object a line."""

    file: str = ""
    """Empty: events.jsonl in state_dir; "-": standard output."""
    rotate_mib: float = 16.0
    keep: int = 5
    queue: int = 10_000
    stats_s: Seconds = 60.0


class Metrics(Section, frozen=True, forbid_unknown_fields=True):
    """Prometheus."""

    listen: str = ""
    """HOST:PORT; empty: not served over HTTP (the socket has them all the same)."""


class Ring(Section, frozen=True, forbid_unknown_fields=True):
    """The capture ring of each interface."""

    mib: int = 16
    retire_ms: int = 4
    promiscuous: bool = False


class Config(Section, frozen=True, forbid_unknown_fields=True):
    """A whole configuration file (TOML)."""

    interfaces: tuple[str, ...]
    """The protected side; a bridge stands for all its ports."""
    profile: Literal["appliance", "paper"] = "appliance"
    mode: Literal["gateway-only", "offloaded"] = "gateway-only"
    model: str = ""
    """Model bundle; may be empty in mode offloaded without on_classifier_down = "local"."""
    state_dir: str = "/var/lib/ids-appliance"
    run_dir: str = "/run/ids-appliance"
    group: str = ""
    """Group that may read from the socket."""
    routers: tuple[str, ...] = ()
    """MACs of routers on the protected side, beside the default routers found there."""
    trigger: Trigger = Trigger()
    window: Window = Window()
    policy: Policy = Policy()
    enforce: Enforce = Enforce()
    protect: Protect = Protect()
    node: Node = Node()
    failure: Failure = Failure()
    events: Events = Events()
    metrics: Metrics = Metrics()
    ring: Ring = Ring()
