"""Packet-ins of OpenFlow 1.3 switches in, entries of a learning switch out; on os-ken.

    table 0   30  frames to bridges themselves, from groups, of link discovery: dropped
              20  a known address at its port: to table 1
              10  a port with too many addresses, for 10 s: to table 1
               0  any other: a copy to the controller, and to table 1
    table 1   20  to a known address: to its port (`forward` = entries)
               0  any other: as the switch itself forwards (action NORMAL)

Nothing is ever sent back into the switch by us, a frame goes through it once: so a mirror shows it
once, and no frame waits for us. FLOOD would go to a mirror's output port as well, NORMAL does not,
and keeps to the VLANs of ports. What has priorities from 60000 on in table 0 is somebody else's.
"""

import logging
import socket
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from os_ken.base.app_manager import AppManager, OSKenApp
from os_ken.cfg import CONF
from os_ken.controller import controller as _options  # noqa: F401  (registers what CONF takes)
from os_ken.controller import ofp_event
from os_ken.controller.handler import (
    CONFIG_DISPATCHER,
    DEAD_DISPATCHER,
    MAIN_DISPATCHER,
    set_ev_cls,
)
from os_ken.ofproto import ofproto_v1_3

from ids_appliance.errors import MonitorError
from ids_appliance.monitor.controller_settings import ControllerSettings
from ids_appliance.monitor.discovery import BDDP, LLDP, frames
from ids_appliance.monitor.learning import MUTE_S, Addresses, Lesson

FIXED: Final = 0x1D5C000000000001
LEARNED: Final = 0x1D5C000000000002
"""Cookies: at a switch that comes back, what was learned goes and the rest is as it was."""
IDLE_S: Final = 300
HARD_S: Final = 900
"""An address is learned anew after so long: a controller that was away notices who has moved."""
ASKS_PPS: Final = 500
"""Frames a second that a switch may show us (a meter, where it has any)."""
COPY_BYTES: Final = 64
ECHO_S: Final = 4
ECHOES: Final = 3
"""A connection that answers none of so many questions is ended."""
MAX_PORTS: Final = 1024
_BRIDGES: Final = ("01:80:c2:00:00:00", "ff:ff:ff:ff:ff:f0")
_GROUPS: Final = ("01:00:00:00:00:00", "01:00:00:00:00:00")

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Switch:
    path: Any
    addresses: Addresses
    ports: set[int] = field(default_factory=set)


class LearningSwitch(OSKenApp):
    """All switches that have connected; handlers run in one thread, discovery in another."""

    OFP_VERSIONS = [ofproto_v1_3.OFP_VERSION]  # noqa: RUF012

    def __init__(self, settings: ControllerSettings, clock: Callable[[], float]) -> None:
        super().__init__()
        self._settings = settings
        self._clock = clock
        self._switches: dict[int, _Switch] = {}
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()

    @set_ev_cls(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)
    def on_features(self, event: Any) -> None:
        """A switch has come, or come back: give it what always stands."""
        path = event.msg.datapath
        settings = self._settings
        with self._lock:
            self._switches[path.id] = _Switch(
                path, Addresses(settings.max_macs, settings.max_macs_per_port)
            )
        p, o = path.ofproto_parser, path.ofproto
        band = p.OFPMeterBandDrop(rate=ASKS_PPS, burst_size=ASKS_PPS)
        flags = o.OFPMF_PKTPS | o.OFPMF_BURST
        for what in (o.OFPMC_DELETE, o.OFPMC_ADD):  # a second ADD of it would be an error
            bands = [band] if what == o.OFPMC_ADD else []
            path.send_msg(p.OFPMeterMod(path, what, flags, o.OFPM_CONTROLLER, bands))
        onward = p.OFPInstructionGotoTable(1)
        copy = _apply(path, p.OFPActionOutput(o.OFPP_CONTROLLER, COPY_BYTES))
        for match in (
            p.OFPMatch(eth_dst=_BRIDGES),
            p.OFPMatch(eth_src=_GROUPS),
            p.OFPMatch(eth_type=LLDP),
            p.OFPMatch(eth_type=BDDP),
        ):
            _add(path, 0, 30, match, [])
        _add(path, 1, 0, p.OFPMatch(), [_apply(path, p.OFPActionOutput(o.OFPP_NORMAL))])
        _add(path, 0, 0, p.OFPMatch(), [copy, onward])
        _delete(path, o.OFPTT_ALL, p.OFPMatch(), cookie=LEARNED)
        path.send_msg(p.OFPPortDescStatsRequest(path, 0))
        self.counts["connected"] += 1
        _log.info("switch %016x is here", path.id)

    @set_ev_cls(ofp_event.EventOFPStateChange, [DEAD_DISPATCHER])
    def on_gone(self, event: Any) -> None:
        """A connection has ended; the switch may have a new one already."""
        path = event.datapath
        with self._lock:
            held = self._switches.get(path.id) if path.id is not None else None
            if held is not None and held.path is path:
                del self._switches[path.id]
        _log.info("switch %s is gone", "?" if path.id is None else f"{path.id:016x}")

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)
    def on_packet(self, event: Any) -> None:
        """A frame from an address that is not known at its port."""
        message = event.msg
        switch = self._switches.get(message.datapath.id)
        port, mac = message.match.get("in_port", 0), bytes(message.data[6:12])
        self.counts["packet_ins"] += 1
        if switch is None or switch.path is not message.datapath:
            return
        lesson = switch.addresses.see(mac, port, now_s=self._clock())
        if lesson in (Lesson.NEW, Lesson.MOVED):
            self._teach(switch.path, mac.hex(":"), port, moved=lesson is Lesson.MOVED)
        elif lesson is Lesson.FULL:
            self._mute(switch.path, port)

    @set_ev_cls(ofp_event.EventOFPFlowRemoved, MAIN_DISPATCHER)
    def on_removed(self, event: Any) -> None:
        """An address has not been heard of for long: forget it."""
        message = event.msg
        switch = self._switches.get(message.datapath.id)
        mac, port = message.match.get("eth_src"), message.match.get("in_port")
        if switch is None or mac is None or message.reason == 2:  # OFPRR_DELETE: by us
            return
        if switch.addresses.forget(bytes.fromhex(mac.replace(":", "")), port):
            match = switch.path.ofproto_parser.OFPMatch(eth_dst=mac)
            _delete(switch.path, 1, match, cookie=LEARNED)

    @set_ev_cls(ofp_event.EventOFPPortDescStatsReply, MAIN_DISPATCHER)
    def on_ports(self, event: Any) -> None:
        """The ports there are: discovery begins at once."""
        path = event.msg.datapath
        switch = self._switches.get(path.id)
        if switch is not None:
            new = {port.port_no for port in event.msg.body if _physical(path, port)}
            switch.ports = {*switch.ports, *sorted(new)[:MAX_PORTS]}
            self._discover(switch)

    @set_ev_cls(ofp_event.EventOFPPortStatus, MAIN_DISPATCHER)
    def on_port(self, event: Any) -> None:
        """A port comes, goes or changes."""
        path, port = event.msg.datapath, event.msg.desc
        switch = self._switches.get(path.id)
        if switch is None or not _physical(path, port):
            return
        if event.msg.reason != path.ofproto.OFPPR_DELETE:
            if len(switch.ports) < MAX_PORTS:
                switch.ports = {*switch.ports, port.port_no}
            return
        switch.ports = switch.ports - {port.port_no}
        p = path.ofproto_parser
        for mac in switch.addresses.forget_port(port.port_no):
            _delete(path, 1, p.OFPMatch(eth_dst=mac.hex(":")), cookie=LEARNED)
        _delete(path, 0, p.OFPMatch(in_port=port.port_no), cookie=LEARNED)

    @set_ev_cls(ofp_event.EventOFPErrorMsg, [CONFIG_DISPATCHER, MAIN_DISPATCHER])
    def on_error(self, event: Any) -> None:
        """A switch refuses something: it has no meters, or its table is full."""
        self.counts["refused"] += 1
        kind, code = event.msg.type, event.msg.code
        if kind == event.msg.datapath.ofproto.OFPET_METER_MOD_FAILED:
            _log.info("the switch has no meter for what it shows us (code %d)", code)
        else:
            _log.warning("the switch refuses a message: type %d code %d", kind, code)

    def discover(self) -> None:
        """Send discovery frames out of every port of every switch.

        A dead connection shows by that, too: os-ken ends its threads when a send fails."""
        with self._lock:
            switches = list(self._switches.values())
        for switch in switches:
            self._discover(switch)

    def totals(self) -> dict[str, int]:
        """Return what was counted, and how many addresses and switches there are."""
        with self._lock:
            switches = list(self._switches.values())
        found = dict(self.counts) | {"switches": len(switches)}
        found["addresses"] = sum(len(one.addresses) for one in switches)
        for lesson in Lesson:
            name = f"seen_{lesson.name.lower()}"
            found[name] = sum(one.addresses.counts[lesson] for one in switches)
        return found

    def _teach(self, path: Any, mac: str, port: int, *, moved: bool) -> None:
        p, o = path.ofproto_parser, path.ofproto
        if moved:
            _delete(path, 0, p.OFPMatch(eth_src=mac), cookie=LEARNED)
        # First where frames to it go: an answer must find the way that its question has opened.
        if self._settings.forward == "entries":
            output = _apply(path, p.OFPActionOutput(port))
            _add(path, 1, 20, p.OFPMatch(eth_dst=mac), [output], hard_s=HARD_S + IDLE_S)
        onward = [p.OFPInstructionGotoTable(1)]
        match = p.OFPMatch(in_port=port, eth_src=mac)
        told = o.OFPFF_SEND_FLOW_REM
        _add(path, 0, 20, match, onward, idle_s=IDLE_S, hard_s=HARD_S, flags=told)
        self.counts["taught"] += 1

    def _mute(self, path: Any, port: int) -> None:
        p = path.ofproto_parser
        onward = [p.OFPInstructionGotoTable(1)]
        _add(path, 0, 10, p.OFPMatch(in_port=port), onward, hard_s=MUTE_S)
        self.counts["muted"] += 1

    def _discover(self, switch: _Switch) -> None:
        if not self._settings.discovery_s:
            return
        path = switch.path
        p, o = path.ofproto_parser, path.ofproto
        for port in sorted(switch.ports):
            for frame in frames(path.id, port, everybody=self._settings.bddp):
                actions = [p.OFPActionOutput(port)]
                out = p.OFPPacketOut(path, o.OFP_NO_BUFFER, o.OFPP_CONTROLLER, actions, frame)
                path.send_msg(out)
                self.counts["discovery_frames"] += 1


def _physical(path: Any, port: Any) -> bool:
    return bool(0 < port.port_no < path.ofproto.OFPP_MAX)


def _apply(path: Any, *actions: Any) -> Any:
    kind = path.ofproto.OFPIT_APPLY_ACTIONS
    return path.ofproto_parser.OFPInstructionActions(kind, list(actions))


def _add(
    path: Any,
    table: int,
    priority: int,
    match: Any,
    instructions: list[Any],
    **more: int,
) -> None:
    path.send_msg(
        path.ofproto_parser.OFPFlowMod(
            path,
            cookie=LEARNED if more else FIXED,
            table_id=table,
            priority=priority,
            match=match,
            instructions=instructions,
            idle_timeout=more.get("idle_s", 0),
            hard_timeout=more.get("hard_s", 0),
            flags=more.get("flags", 0),
        )
    )


def _delete(path: Any, table: int, match: Any, *, cookie: int) -> None:
    o = path.ofproto
    path.send_msg(
        path.ofproto_parser.OFPFlowMod(
            path,
            cookie=cookie,
            cookie_mask=0xFFFFFFFFFFFFFFFF,
            table_id=table,
            command=o.OFPFC_DELETE,
            out_port=o.OFPP_ANY,
            out_group=o.OFPG_ANY,
            match=match,
        )
    )


def run(
    settings: ControllerSettings, stop: threading.Event, *, clock: Callable[[], float]
) -> dict[str, int]:
    """Serve switches until `stop` is set; return the totals.

    Raises MonitorError in one line: the address cannot be listened on. os-ken's threads never end
    by themselves: the process has to, and they do not hold it up.
    """
    _free(settings)
    words = [f"--ofp-listen-host={settings.host}"]
    if settings.tls:
        words += [f"--ofp-ssl-listen-port={settings.port}", f"--ctl-privkey={settings.key}"]
        words += [f"--ctl-cert={settings.cert}", f"--ca-certs={settings.ca}"]
    # A port that is named keeps os-ken from listening on 6633 as well.
    words.append(f"--ofp-tcp-listen-port={settings.port}")
    CONF(words, project="ids-appliance", default_config_files=[])
    # os-ken's thread that sends waits for ever, also when nobody is there any more, unless it has
    # something to send: so each connection is asked for a sign of life.
    CONF.set_override("echo_request_interval", ECHO_S)
    CONF.set_override("maximum_unreplied_echo_requests", ECHOES)
    ready: list[LearningSwitch] = []

    def serve() -> None:
        manager = AppManager.get_instance()
        manager.load_apps(["os_ken.controller.ofp_handler"])
        ready.append(manager.instantiate(LearningSwitch, settings, clock))
        manager.instantiate_apps()

    # Threads inherit being daemons from the one that starts them.
    starting = threading.Thread(target=serve, daemon=True)
    starting.start()
    starting.join()
    if not ready:
        raise MonitorError("the controller has not started: its log says why")
    _log.info("listening on %s:%d%s", settings.host, settings.port, " (TLS)" * settings.tls)
    while not stop.wait(settings.discovery_s or None):
        ready[0].discover()
    return ready[0].totals()


def _free(settings: ControllerSettings) -> None:
    """Raise MonitorError where nobody could listen: os-ken would only log it, and go on."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise MonitorError(
                f"cannot listen on {settings.host}:{settings.port}: {error.strerror}: stop whoever "
                "does (ss -ltnp), or choose another --listen"
            ) from error
