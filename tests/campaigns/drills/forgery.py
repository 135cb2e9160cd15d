"""Somebody sends in another's name: who was accused, and did the one whose name it was suffer?

Twenty devices' ordinary life goes on meanwhile and is measured.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from ids_appliance.lab.layouts import GATEWAY, ROUTER
from ids_appliance.lab.measure import PacketCounter, neighbour
from ids_appliance.lab.network import Lab
from tests.campaigns.drills.ground import Ground
from tests.campaigns.drills.report import Report
from tests.campaigns.drills.traffic import Attack, Life, Stream, hping

VICTIM: Final = "dev01"
ATTACK_S: Final = 6.0
LIFE_S: Final = 12.0
OPEN_EYES: Final = {"window.socket_filter": False, "trigger.udp_rate.enabled": True}
"""UDP is seen while the window is closed, too: more chances to accuse somebody."""


class Scene:
    """One forgery: the ground, and who may be accused."""

    def __init__(self, ground: Ground, report: Report) -> None:
        self.ground = ground
        self.lab = ground.lab
        self.report = report

    def name(self, host: str) -> str:
        """Return how the gateway names a host on the protected side."""
        return f"{self.lab.mac(host).hex(':')}@{self.lab.port(host)}"

    def judge(self, attacker: str, *, beyond: str = "") -> None:
        """Say who was accused: the attacker, and nobody else.

        beyond: whom the attacker claims to be, beyond us. What it forges is seen once more where
        the gateway sends it on, and cannot be told there from what comes from beyond: new flows of
        that address may be limited, which takes nothing from those that stand.
        """
        accused = self.ground.accused()
        whom = ", ".join(f"{s}: {r}" for s, r in accused.items()) or "nobody"
        others = {s: r for s, r in accused.items() if s != attacker}
        limited = bool(beyond) and others == {beyond: "rate_limit"}
        self.report.expect(attacker in accused and (limited or not others), "accused", whom)
        if limited:
            self.report.say("accused beside it", f"{beyond}: new flows from beyond are limited")
        rules = {e["trigger"]["rule"] for e in self.ground.events("trigger")}
        self.report.say("rules that fired", ", ".join(sorted(rules)) or "none")


@contextmanager
def scene(
    layout: str,
    report: Report,
    *,
    but: tuple[str, ...] = (),
    asked: str = "server",
    bearable: float = 0.001,
    **settings: Any,
) -> Iterator[Scene]:
    """A gateway with ordinary life around; its losses are accounted at the end. but: hosts whose
    own losses are the attack's, whatever the gateway does. asked: who answers questions. bearable:
    share of packets that may be lost."""
    with Ground(layout, **settings) as ground:
        ground.start()
        life = Life(ground.lab, seconds=LIFE_S, but=(VICTIM, *but), asked=asked)
        begin = time.monotonic_ns()
        yield Scene(ground, report)
        life.account(report, start_ns=begin, stop_ns=time.monotonic_ns(), bearable=bearable)


def _last(attacks: list[Attack]) -> None:
    """Let attacks go on for their time."""
    with ExitStack() as stack:
        for attack in attacks:
            stack.enter_context(attack)
        time.sleep(ATTACK_S)


def broker_from_inside(layout: str, report: Report) -> None:
    """UDP flood and port scan in the broker's name, from a device."""
    with scene(layout, report, **OPEN_EYES) as on:
        lab, broker = on.lab, on.lab.address("server")
        _last([udp(lab, "bot", broker), syn_scan(lab, "bot", broker)])
        on.judge(on.name("bot"), beyond=broker)


def broker_from_outside(layout: str, report: Report) -> None:
    """The same from beyond: nothing but the address tells the broker and its forger apart."""
    with scene(layout, report, **OPEN_EYES) as on:
        lab, broker = on.lab, on.lab.address("server")
        _last([udp(lab, "outsider", broker), syn_scan(lab, "outsider", broker)])
        _only_new_flows(on, broker)


def arp_as_router(layout: str, report: Report) -> None:
    """A device tells everybody that it is the router."""
    # All are its victims, for as long as it takes to cut it off and to heal their caches.
    with scene(layout, report, but=("phone",), bearable=0.2) as on:
        lab = on.lab
        router = lab.next_hop("home")
        true = lab.mac(GATEWAY, "guest0") if layout == "routed" else lab.mac(ROUTER, "lan0")
        lab.write("bot", "net/ipv4/ip_forward", "1")
        # What the telephone had before: an attacker who is first is believed.
        lab.run("phone", "ping", "-c", "1", "-W", "2", router)
        # To everybody: what goes from one to another over somebody else's switch, nobody sees.
        with Attack(lab, "bot", "arpspoof", "-i", "eth0", router, seconds=ATTACK_S + 2):
            time.sleep(ATTACK_S)
            has = neighbour(lab, "phone", router)
        on.judge(on.name("bot"))
        said = "the router's" if has == true else f"{has.hex(':') if has else 'nothing'}"
        report.expect(has == true, "the telephone's cache, while it goes on", said)


def neighbour_address(layout: str, report: Report) -> None:
    """A scan in the telephone's address, with the attacker's own MAC."""
    with scene(layout, report) as on:
        _last([syn_scan(on.lab, "bot", on.lab.address("phone"))])
        on.judge(on.name("bot"))


def neighbour_card(layout: str, report: Report) -> None:
    """A scan in the telephone's address and MAC."""
    with scene(layout, report, but=("phone",)) as on:
        phone = on.lab.mac("phone").hex(":")
        _last([syn_scan_with_card(on.lab, "bot", "phone")])
        accused = on.ground.accused()
        whom = ", ".join(f"{s}: {r}" for s, r in accused.items()) or "nobody"
        if layout == "bridge":
            forged = f"{phone}@{on.lab.port('bot')}"
            on.report.expect(set(accused) <= {forged}, "accused (the forger's own port)", whom)
        elif on.name("phone") in accused:
            on.report.say(
                "accused",
                f"{whom}: the telephone itself. Behind one port two senders of one MAC cannot be "
                "told apart",
            )
        else:
            on.report.expect(not accused, "accused", whom)


def dns_from_outside(layout: str, report: Report) -> None:
    """SYN flood from beyond in the name of a DNS server that is asked all the time."""
    _peer_from_outside(layout, report, "outsider2")


def cloud_from_outside(layout: str, report: Report) -> None:
    """SYN flood from beyond in the name of the cloud that the devices hold connections to."""
    _peer_from_outside(layout, report, "server")


def _peer_from_outside(layout: str, report: Report, peer: str) -> None:
    with scene(layout, report, asked=peer) as on:
        forged = on.lab.address(peer)
        _flood_from_outside(on, forged)
        _only_new_flows(on, forged, f"the flood of {on.lab.address(VICTIM)}:80")


def _flood_from_outside(on: Scene, forged: str) -> None:
    lab, victim = on.lab, on.lab.address(VICTIM)
    what = f"tcp dst port 80 and src host {forged} and dst host {victim}"
    arrived = PacketCounter(lab, VICTIM, what)
    with hping(lab, "outsider", victim, "-S", "-p", "80", "-a", forged):
        time.sleep(ATTACK_S / 2)
        early = arrived.read()
        time.sleep(ATTACK_S / 2)
    late = arrived.read() - early
    arrived.close()
    on.report.expect(late < 100, "of the flood: first half, second half", f"{early}, {late}")


def _only_new_flows(on: Scene, forged: str, *harmless: str) -> None:
    """A forged peer beyond us may be limited in new flows, and no more."""
    accused = on.ground.accused()
    whom = ", ".join(f"{s}: {r}" for s, r in accused.items()) or "nobody"
    fine = "quarantine" not in accused.values() and set(accused) <= {forged, *harmless}
    on.report.expect(fine, "accused (limited in new flows at most)", whom)


def client_from_outside(layout: str, report: Report) -> None:
    """SYN flood from beyond in the name of somebody who has called a device of ours, and still
    does: its address was proven once, and is forged now."""
    with scene(layout, report) as on:
        client = on.lab.address("outsider2")
        ours = Stream(on.lab, "outsider2", "dev10")
        time.sleep(0.5)
        begin = time.monotonic_ns()
        _flood_from_outside(on, client)
        end = time.monotonic_ns()
        ours.stop()
        _only_new_flows(on, client, f"the flood of {on.lab.address(VICTIM)}:80")
        gap = ours.gap_s(begin, end)
        report.expect(gap < 1.0, "the client's connection: longest silence", f"{gap:.2f} s")


def gateway_from_inside(layout: str, report: Report) -> None:
    """A device sends in the gateway's own address."""
    with scene(layout, report) as on:
        lab = on.lab
        own = lab.next_hop("home") if layout == "routed" else lab.address(GATEWAY)
        flood = hping(lab, "bot", lab.address(VICTIM), "-S", "-p", "80", "-a", own)
        _last([flood, syn_scan(lab, "bot", own)])
        on.judge(on.name("bot"))
        there = lab.popen("phone", ["ping", "-c", "3", "-i", "0.2", "-W", "1", own], limit_s=5)
        on.report.expect(there.wait() == 0, "the gateway still answers its devices", "ping")


def device_from_outside(layout: str, report: Report) -> None:
    """SYN flood from beyond in the name of a device of ours, which loses nothing by it."""
    with scene(layout, report) as on:
        forged = on.lab.address("dev07")  # asks questions and publishes meanwhile
        _flood_from_outside(on, forged)
        _only_new_flows(on, forged, f"the flood of {on.lab.address(VICTIM)}:80")


def udp(lab: Lab, host: str, source: str) -> Attack:
    """A UDP flood of random sizes in somebody's name."""
    return hping(
        lab, host, lab.address(VICTIM), "-2", "-p", "9999", "-d", "200", "-a", source, pps=2000
    )


def syn_scan(lab: Lab, host: str, source: str) -> Attack:
    """A port scan in somebody's address: nobody hears the answers."""
    target = lab.address(VICTIM)
    return hping(lab, host, target, "-S", "-p", "++1", "-a", source, pps=100)


def syn_scan_with_card(lab: Lab, host: str, victim_of_it: str) -> Attack:
    """The same in somebody's address and MAC (hping3 has no say in the latter)."""
    hop = lab.next_hop_mac(host, VICTIM).hex(":")
    path = lab.directory / "card.cfg"
    path.write_text(
        f"{{ eth(da={hop}, sa={lab.mac(victim_of_it).hex(':')}),\n"
        f"  ipv4(ttl=64, id=drnd(), sa={lab.address(victim_of_it)}, da={lab.address(VICTIM)}),\n"
        "  tcp(sp=drnd(), dp=dinc(1, 1000), seq=drnd(), win=512, syn) }\n"
    )
    words = ("trafgen", "-c", str(path), "-o", "eth0", "-P", "1", "-C", "-t", "10ms")
    return Attack(lab, host, *words, "-n", str(int(100 * ATTACK_S)), seconds=ATTACK_S + 2)


DRILLS: Final[dict[str, Callable[[str, Report], None]]] = {
    "broker-inside": broker_from_inside,
    "broker-outside": broker_from_outside,
    "arp-router": arp_as_router,
    "neighbour-address": neighbour_address,
    "neighbour-card": neighbour_card,
    "dns-outside": dns_from_outside,
    "cloud-outside": cloud_from_outside,
    "client-outside": client_from_outside,
    "own-address-inside": gateway_from_inside,
    "device-outside": device_from_outside,
}
