"""The configuration: every section, its settings, their defaults and what they mean.

Sections are frozen msgspec structs, so that a value of the wrong type or an unknown key is refused
with its place. Stages take their own section as it stands here; nobody else holds a default.
"""

from typing import Annotated, Literal

from msgspec import Meta

from ids_appliance.config.further import (
    ArpInsistence,
    ArpSweep,
    Convicting,
    Rate,
    Repeated,
    Slow,
)
from ids_appliance.config.inline import Inline
from ids_appliance.config.notices import Notices
from ids_appliance.config.priorities import Tc
from ids_appliance.config.terms import (
    Count,
    Distinct,
    Ratio,
    Response,
    Rows,
    Seconds,
    SecondsOrZero,
    Section,
    SetSize,
    Weight,
)


class Dos(Section, frozen=True, forbid_unknown_fields=True):
    """SYNs to one (destination, port) without handshakes."""

    enabled: bool = True
    """Whether the rule is evaluated."""
    syns: Count = 500
    """SYNs in a rule window from which on it fires."""
    handshake_ratio: Ratio = 0.2
    """Completed handshakes / SYNs below which it fires."""


class PortScan(Section, frozen=True, forbid_unknown_fields=True):
    """One source tries many ports of one host, and mostly fails."""

    enabled: bool = True
    """Whether the rule is evaluated."""
    ports: Distinct = 20
    """Distinct ports of one host in a rule window from which on it fires."""
    failed_ratio: Ratio = 0.8
    """Share of the attempts that must have failed (RST, unreachable, no answer)."""
    alone: Annotated[int, Meta(ge=0, le=65_535)] = 128
    """Ports at which TCP connections failed, from which on the rule alone limits; 0: never."""


class Mirai(Section, frozen=True, forbid_unknown_fields=True):
    """One source tries many hosts on few ports; cues: ICMP echo and ARP sweeps."""

    enabled: bool = True
    """Whether the rule is evaluated."""
    hosts: Distinct = 20
    """Distinct hosts in a rule window from which on it fires."""
    top_ports: Annotated[int, Meta(ge=1, le=64)] = 5
    """How many ports count as a small fixed set."""
    top_ports_ratio: Ratio = 0.9
    """Share of the attempts that must go to those ports."""
    failed_or_brief_ratio: Ratio = 0.8
    """Share of the attempts that must have failed or been brief."""
    brief_s: Seconds = 2.0
    """A connection closed within this time is brief."""
    brief_packets: Count = 5
    """A connection of at most so many packets is brief."""
    echo_hosts: Distinct = 20
    """ICMP echo requests to so many hosts are a cue of their own."""
    arp_targets: Distinct = 30
    """ARP requests for so many addresses from one MAC are a cue of their own."""
    alone: Annotated[int, Meta(ge=0, le=64)] = 40
    """Hosts at which TCP connections failed, from which on the rule alone limits; 0: never."""


class ArpSpoof(Section, frozen=True, forbid_unknown_fields=True):
    """Claims against bindings, unsolicited replies, changing MACs."""

    enabled: bool = True
    """Whether the rule is evaluated."""
    unsolicited: Count = 10
    """Replies that nobody asked for, from one MAC, from which on it fires."""
    mac_changes: Count = 3
    """Changes of one address's MAC from which on it fires."""


class Trigger(Section, frozen=True, forbid_unknown_fields=True):
    """When to look closer: four rules, and further ones, each with its switch."""

    kind: Literal["embedded", "always", "manual", "zeek"] = "embedded"
    """Who opens the window: our own rules, nobody (it is always open), people, or Zeek."""
    rule_window_s: Seconds = 5.0
    """The rules count in windows of this length, aligned to packet time."""
    no_answer_s: Seconds = 1.0
    """An attempt without an answer for so long has failed."""
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
    icmp_rate: Convicting = Convicting(enabled=True, count=250, alone=500)
    """ICMP packets to one victim, errors and echo replies aside."""
    idle_connections: Rate = Rate(count=200)
    """Connections that one source holds open to one server without sending."""
    unsolicited_answers: Convicting = Convicting(enabled=True, count=50, alone=500)
    """Answers to one victim that nobody asked for."""
    failed_connections: Convicting = Convicting(enabled=True, count=100, alone=150)
    """Failed connections of one source to one port of one host; alone: those that nobody refused
    or answered, which a device that insists makes as well."""
    udp_exchanges: Convicting = Convicting(enabled=True, count=200, alone=500)
    """UDP exchanges that one source begins."""
    repeated_connections: Repeated = Repeated()
    arp_sweep: ArpSweep = ArpSweep()
    arp_insistence: ArpInsistence = ArpInsistence()
    impossible_flags: Convicting = Convicting(enabled=True, count=3, alone=6)
    """TCP of one source with SYN and FIN, or with none of SYN, RST and ACK: nobody's ordinary."""
    bindings: dict[str, str] = {}
    """IPv4 address -> MAC, for what may never change (the router)."""
    max_flows: Rows = 65_536
    """Connections and exchanges followed at a time; overflowing is a trigger itself."""
    max_keys: Rows = 16_384
    """Keys of each rule."""
    max_senders: Rows = 16_384
    """Senders known at a time."""
    max_bindings: Rows = 4_096
    """IPv4-to-MAC bindings learned from ARP and DHCP."""


class Zeek(Section, frozen=True, forbid_unknown_fields=True):
    """Zeek as the prescreener, where trigger.kind is "zeek"; what it counts by is [trigger]'s."""

    log: str = "/run/ids-appliance-zeek/trigger.log"
    """Where it writes its triggers."""
    silence_s: Annotated[float, Meta(ge=2, le=3600)] = 5.0
    """It signs once a second; without a line for so long our own rules prescreen."""
    mirror_pps: Annotated[int, Meta(ge=100, le=1_000_000)] = 5_000
    """Packets a second that are copied to it at most; past that it rests and says so."""
    mirror_burst: Annotated[int, Meta(ge=1, le=1_000_000)] = 500
    """How many may come at once."""


class Window(Section, frozen=True, forbid_unknown_fields=True):
    """The elevated-scrutiny window."""

    window_s: Seconds = 30.0
    """It closes so long after the last trigger or malicious decision."""
    max_window_s: Seconds = 600.0
    """It closes and arms anew after so long, whatever happens."""
    sample_every_s: SecondsOrZero = 0.0
    """Look closer for `sample_s` once in this time even if nothing fired; 0 never."""
    sample_s: Seconds = 2.0
    """Length of a sample window."""
    socket_filter: bool = True
    """While closed, let the kernel pass only what the rules need."""


class Policy(Section, frozen=True, forbid_unknown_fields=True):
    """From verdicts to findings and decisions."""

    kind: Literal["sequential", "per_packet"] = "sequential"
    """Evidence added up per sender, or a decision for every verdict of 1 (as published)."""
    upper: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    """Sum of log-odds that makes a decision; 0: the calibrated bound of `bounds`."""
    lower: Annotated[float, Meta(lt=0, ge=-1000)] = -8.0
    """Sum of log-odds that clears a sender."""
    clip: Annotated[float, Meta(gt=0, le=50)] = 2.0
    """Most that one packet weighs, either way."""
    cell_weight: Annotated[float, Meta(ge=1, le=4_096)] = 3.0
    """Packets of one cell count as at most so many witnesses at any time."""
    half_life_s: Annotated[float, Meta(ge=0.1, le=3600)] = 30.0
    """Evidence counts half after this time."""
    bounds: str = ""
    """File written by `calibrate`; empty: the defaults that ship."""
    priors: dict[str, Weight] = {}
    """Rule -> log-odds with which its trigger enters; others keep their default."""
    max_senders: Rows = 4_096
    """Senders with evidence at a time."""
    cells_per_sender: Annotated[int, Meta(ge=1, le=4_096)] = 64
    """Cells remembered per sender."""
    durations_s: tuple[Seconds, ...] = (600.0, 3600.0, 86_400.0, 604_800.0)
    """Of the first, second, ... decision about a sender."""
    memory_s: Seconds = 1_209_600.0
    """A sender without decisions for so long begins at the first duration again."""
    breaker_per_minute: Count = 5
    """More decisions than this in a minute: everything holds at observe, with an alarm."""
    breaker_lan_share: Ratio = 0.2
    """The same if more than this share of the known LAN devices is decided about."""
    breaker_cool_down_s: Seconds = 900.0
    """How long it holds if nobody resets it (`enforce on`); doubled each time it trips anew."""
    climb_after_s: Seconds = 10.0
    """Evidence alone limits a sender; if it goes on for longer than this, it cuts it off."""
    probation_s: SecondsOrZero = 86_400.0
    """After a quarantine the sender stays limited as long again, but at most this long."""
    max_decisions: Rows = 16_384
    """Standing decisions; the weakest gives way."""


class OpenFlow(Section, frozen=True, forbid_unknown_fields=True):
    """The Open vSwitch bridge whose flow entries act, where enforce.backend is "openflow"."""

    bridge: str = ""
    """A bridge of this machine, by name."""
    target: str = ""
    """Another machine's instead: tcp:HOST:PORT, ssl:HOST:PORT or unix:PATH, as the bridge listens
    (ovs-vsctl set-controller BRIDGE ptcp:PORT:ADDRESS)."""
    ovs_run_dir: str = ""
    """Directory of Open vSwitch's sockets; empty: $OVS_RUNDIR, or the system's."""
    cut: Literal["mac", "port"] = "mac"
    """What a quarantine of a MAC takes away: the MAC on every port, or the port that the switch has
    learned it at as well."""
    uplinks: tuple[str, ...] = ()
    """Ports of the bridge behind which there are many: never cut as a whole."""
    mark: Annotated[int, Meta(ge=0, le=15)] = 0
    """Tells our entries from another gateway's on the same bridge."""
    cert: str = ""
    """Our certificate for ssl: (PEM); a relative path is looked up beside this file."""
    key: str = ""
    """Key of the certificate (PEM)."""
    ca: str = ""
    """The authority of the switch's certificate (PEM)."""


class Enforce(Section, frozen=True, forbid_unknown_fields=True):
    """What is done to a sender."""

    enabled: bool = False
    """A fresh installation observes; `ids-appliance enforce on` is a deliberate step."""
    backend: Literal["nftables", "openflow", "dry-run"] = "nftables"
    """Where decisions go: into the kernel, into a switch, or into the log alone."""
    openflow: OpenFlow = OpenFlow()
    ceiling: Response = "quarantine"
    """The most that may be done to anybody."""
    ceilings: dict[str, Response] = {}
    """Per device (MAC or address): the most that may be done to it."""
    rate_limit_pps: Count = 20
    """Packets a second that a rate-limited sender may send."""
    new_flows_per_minute: Count = 10
    """New connections that an unproven sender may still open."""
    synproxy: bool = True
    """Answer spoofed SYN floods by synproxy where the kernel has it; else by a limit."""
    synproxy_mss: Annotated[int, Meta(ge=536, le=9000)] = 1460
    """Largest segment that synproxy announces for a flooded IPv4 victim; 20 less for IPv6."""
    synproxy_wscale: Annotated[int, Meta(ge=0, le=14)] = 0
    """Window scale that synproxy announces: it has to be every victim's own; 0: no TCP options."""
    protected_syns_pps: Count = 100
    """New connections a second that each protected sender may open."""
    lan_set: SetSize = 4_096
    """Size of the kernel's set of MACs."""
    wan_set: SetSize = 16_384
    """Size of the sets of proven outside senders, one for IPv4 and one for IPv6."""
    unverified_set: SetSize = 16_384
    """Size of the sets of outside senders whose address may be forged."""
    flood_set: SetSize = 256
    """Size of the sets of flooded (victim, port) pairs."""
    alarm_share: Ratio = 0.8
    """A set filled to this share raises an alarm."""
    reconcile_s: Seconds = 2.0
    """Time between two comparisons of the kernel's state with the intended one."""
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
    """HOST:PORT of the nodes; the next one is asked when one fails."""
    cert: str = ""
    """Our certificate (PEM); a relative path is looked up beside this file."""
    key: str = ""
    """Key of the certificate (PEM)."""
    ca: str = ""
    """The authority of both ends (PEM)."""
    crl: str = ""
    """Revocation list (PEM); may be empty."""
    plaintext: bool = False
    """TCP without TLS, instead of certificates."""
    transport: Literal["binary", "json"] = "binary"
    """Cells in our protocol, or one JSON object per packet."""
    deadline_s: Seconds = 1.0
    """A request without an answer for so long counts as unanswered."""


class Failure(Section, frozen=True, forbid_unknown_fields=True):
    """What happens when things go wrong; logged at start."""

    on_classifier_down: Literal["local", "open", "closed"] = "local"
    """local: judge here; open: packets pass unjudged; closed: what a trigger names is limited."""
    on_queue_full: Literal["open", "closed"] = "open"
    """More new cells than can be judged. open: their packets pass unjudged, counted; closed: while
    that goes on, what a trigger names is limited."""
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
    rotate_mib: Annotated[float, Meta(ge=0.01, le=65_536)] = 16.0
    """Size from which on a new file is begun."""
    keep: Annotated[int, Meta(ge=1, le=1_000)] = 5
    """Files kept beside the present one."""
    queue: Annotated[int, Meta(ge=16, le=1_000_000)] = 10_000
    """Events waiting for the disk; the oldest give way, counted."""
    stats_s: Seconds = 60.0
    """Time between two events with the counters."""


class Metrics(Section, frozen=True, forbid_unknown_fields=True):
    """Prometheus."""

    listen: str = ""
    """HOST:PORT; empty: not served over HTTP (the socket has them all the same)."""


class Ring(Section, frozen=True, forbid_unknown_fields=True):
    """The capture ring, one for all interfaces together."""

    mib: Annotated[int, Meta(ge=1, le=1_024)] = 16
    """Memory of the ring."""
    retire_ms: Annotated[int, Meta(ge=1, le=1_000)] = 4
    """A block that is not full is handed over after this time."""
    promiscuous: bool = False
    """See frames for other hosts as well."""


class Config(Section, frozen=True, forbid_unknown_fields=True):
    """A whole configuration file (TOML)."""

    interfaces: tuple[str, ...]
    """The protected side; a bridge stands for all its ports."""
    taps: tuple[str, ...] = ()
    """Those of them that carry copies of others' frames only: mirror ports, network taps."""
    profile: Literal["appliance", "paper"] = "appliance"
    """paper: the published behaviour; it fixes the settings that the table below names."""
    mode: Literal["gateway-only", "offloaded"] = "gateway-only"
    """Who judges: this machine, or a node."""
    model: str = ""
    """Model bundle; may be empty in mode offloaded without on_classifier_down = "local"."""
    state_dir: str = "/var/lib/ids-appliance"
    """Decisions, event log: what survives a reboot."""
    run_dir: str = "/run/ids-appliance"
    """Sockets, lock and token of the running gateway."""
    group: str = ""
    """Group that may read from the socket."""
    routers: tuple[str, ...] = ()
    """MACs of routers on the protected side, beside the default routers found there."""
    names: dict[str, str] = {}
    """MAC or address -> name of the device, for events and tables."""
    leases: str = "/var/lib/misc/dnsmasq.leases"
    """dnsmasq's lease file, for the names of other devices; empty: none is read."""
    trigger: Trigger = Trigger()
    zeek: Zeek = Zeek()
    window: Window = Window()
    policy: Policy = Policy()
    enforce: Enforce = Enforce()
    tc: Tc = Tc()
    protect: Protect = Protect()
    node: Node = Node()
    failure: Failure = Failure()
    events: Events = Events()
    metrics: Metrics = Metrics()
    notices: Notices = Notices()
    ring: Ring = Ring()
    inline: Inline = Inline()
