"""The settings of a traffic monitor: every section, its defaults and what they mean.

A file of its own, beside the gateway's: one machine may be monitor, gateway or both.
"""

from typing import Annotated, Literal

from msgspec import Meta

from ids_appliance.config.terms import Section
from ids_appliance.monitor.capture_settings import Capture

VlanId = Annotated[int, Meta(ge=0, le=4094)]
Port = Annotated[int, Meta(ge=1, le=65_535)]
OpenFlow = Literal["OpenFlow10", "OpenFlow13", "OpenFlow14", "OpenFlow15"]


class Bridge(Section, frozen=True, forbid_unknown_fields=True):
    """The switch that all others are joined to."""

    name: str
    """Of the bridge and of its own interface on this machine."""
    datapath: Literal["auto", "system", "netdev"] = "auto"
    """system: in the kernel; netdev: in its own process; auto: the kernel's where it has one."""
    addresses: tuple[str, ...] = ()
    """Addresses of this machine on the bridge, with their length: 192.168.1.11/24."""
    protocols: tuple[OpenFlow, ...] = ("OpenFlow13",)
    """Versions of OpenFlow that the bridge speaks."""
    fail_mode: Literal["standalone", "secure"] = "standalone"
    """Its controller away: drop all entries and be an ordinary switch, or keep them as they are."""


class Controller(Section, frozen=True, forbid_unknown_fields=True):
    """Who tells the bridge what to forward."""

    connect: str = ""
    """Empty: nobody; embedded: ours, on this machine; or tcp:HOST:PORT, ssl:HOST:PORT."""
    port: Port = 6653
    """Where the embedded one listens, on 127.0.0.1."""


class Uplink(Section, frozen=True, forbid_unknown_fields=True):
    """An interface of this machine that becomes a port of the bridge."""

    interface: str = ""
    """Its addresses and routes move to the bridge; empty: none."""
    confirm_s: Annotated[int, Meta(ge=0, le=3600)] = 60
    """It is undone unless confirmed within this time; 0: never."""


class Host(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A namespace or container that is joined to the bridge by a veth pair."""

    name: str
    """For people, and for mirrors that select it."""
    bridge_end: str
    """End of the pair that is a port of the bridge."""
    host_end: str
    """The other end, before it is moved into the host."""
    inside: str = "eth1"
    """What it is called in there."""
    namespace: str = ""
    """Network namespace (ip-netns(8)); made if it is not there."""
    container: str = ""
    """A running container instead, by name or id."""
    engine: Literal["auto", "docker", "podman"] = "auto"
    """Which engine runs it."""
    addresses: tuple[str, ...] = ()
    """Its addresses, with their length."""
    mac: str = ""
    """Its MAC; empty: the kernel chooses."""
    vlan: VlanId = 0
    """It is an untagged member of this VLAN; 0: of none."""


class Mirror(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Frames that are copied to one more port."""

    name: str
    source: tuple[str, ...] = ()
    """Hosts or ports: what they send into the bridge (Open vSwitch's select_src_port)."""
    destination: tuple[str, ...] = ()
    """Hosts or ports: what the bridge sends to them (select_dst_port)."""
    all: bool = False
    """Every frame of the bridge, instead."""
    vlans: tuple[Annotated[int, Meta(ge=0, le=4095)], ...] = ()
    """Of those, only frames of these VLANs (select_vlan); empty: of all."""
    output: str
    """Host or port that gets the copies, and nothing else."""


class Monitor(Section, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole file (TOML)."""

    name: str = "monitor"
    """Marks what is ours in Open vSwitch and in the kernel: two monitors need two names."""
    run_dir: str = "/run/ids-appliance-monitor"
    """Records of what was made, and of the uplink as it was before."""
    ovs_run_dir: str = ""
    """Directory of Open vSwitch's sockets; empty: $OVS_RUNDIR, or the system's."""
    bridge: Bridge
    controller: Controller = Controller()
    uplink: Uplink = Uplink()
    hosts: tuple[Host, ...] = ()
    """Tables [[hosts]]."""
    mirrors: tuple[Mirror, ...] = ()
    """Tables [[mirrors]]."""
    capture: Capture = Capture()
