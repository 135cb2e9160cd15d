"""The demo's sequence as data: who does what to whom, in which order, and what has to follow.

Every act is ordinary life and, in all but the first, something that opens the window: an attack,
or the ordinary thing that looks like it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from ids_appliance.lab.scenarios import Scenario, Step, read

Kind = Literal["ordinary", "allowed", "observed", "attack", "twin"]
"""observed: an attack while enforcement is paused, which shows what it does to its victim."""
LEAD_S: Final = 0.6
"""Ordinary life alone at the start of an act."""
MIN_ACT_S: Final = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One thing that happens, amid ordinary life."""

    name: str
    title: str
    """Of at most 21 columns."""
    story: str
    """One line for those who watch."""
    kind: Kind
    steps: tuple[Step, ...] = ()
    """What happens beside ordinary life, seconds counted from the act's start."""
    attacker: str = ""
    victims: tuple[str, ...] = ()
    """Whose interfaces the attacker's packets must not reach any more."""
    port: int = 0
    """The flooded one."""
    forged: bool = False
    """The attacker's packets have other senders."""
    cookies: bool | None = None
    """The victim's SYN cookies; None: as they are."""
    poisons: tuple[str, str] | None = None
    """(whose ARP cache, with whose address) an ARP spoofer attacks."""
    unprotected: str = ""
    """Act in which the same attack was observed. Whom the gateway holds back beyond its captured
    ports is not in their capture, so what others would have decided is asked of that one."""
    without_broker: bool = False
    """The broker is away: nobody publishes beside what the act is about."""

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return max((step.at + step.seconds for step in self.steps), default=MIN_ACT_S)

    def scenario(self, life: Sequence[Step]) -> Scenario:
        """Return everything that happens in it, as the lab plays and labels it."""
        return Scenario(self.name, self.story, (*life, *self.steps))


def life(act: Act) -> tuple[Step, ...]:
    """Return the ordinary life of an act: telemetry, names, leases, discovery.

    Downloads and the streams whose losses are counted are measured, so they are not steps.
    """
    whole = act.seconds
    devices = tuple(f"dev{n}" for n in range(11, 17))
    steps = [
        _step("names", "names", ("dev17", "dev18", "phone"), whole, every_s=1.0),
        _step("leases", "lease", ("dev19",), whole, every_s=5.0),
        _step("discovery", "discover", ("phone", "dev20"), whole, every_s=2.0),
    ]
    if not act.without_broker:
        steps += [
            _step("telemetry", "mosquitto_pub", devices, whole, every_s=0.5),
            _step("listener", "mosquitto_sub", ("phone",), whole),
        ]
    return tuple(steps)


def sequence(window_s: float, *, bridged: bool, round_: int = 0) -> tuple[Act, ...]:
    """Return the acts in their order; attacks go on until well after the window should close.

    window_s: of the gateway's configuration. round_: how often the sequence was played before; a
    device that gets a new network card gets another one every time.
    """
    # At most 2 s until it is contained, and a margin in which the closed window is seen.
    under_attack = window_s + 4.0
    lies = max(under_attack, 11.5)
    devices = tuple(f"dev{n:02}" for n in range(1, 21))
    router = "router" if bridged else "gw"
    return (
        Act(
            name="ordinary",
            title="ordinary life",
            story="telemetry, names, leases, mDNS, SSDP, streams, a 50 MB download",
            kind="ordinary",
        ),
        Act(
            name="inventory",
            title="inventory (allowed)",
            story="the administrator's machine scans a device, as the allow list says it may",
            kind="allowed",
            steps=_steps("inventory", {"inventory": window_s + 1.5}),
        ),
        Act(
            name="syn_flood",
            title="SYN flood, one source",
            story="bot floods dev01's web port from its own address",
            steps=_steps("syn_flood", {"flood": under_attack}, flood={"pps": FLOOD_PPS}),
            kind="attack",
            attacker="bot",
            victims=("dev01",),
            port=80,
        ),
        Act(
            name="syn_flood_twin",
            title="  twin: hub retries",
            story="dev06 has lost a service; the hub tries it again as fast as it is refused",
            kind="twin",
            steps=_steps("flood_twin", {"retries": window_s + 3.5}),
        ),
        Act(
            name=OBSERVED,
            title="spoofed, unprotected",
            story="the gateway only looks on while dev01, its SYN cookies off, is flooded",
            steps=_steps("spoofed_flood", {"flood": 6.0}, flood={"pps": FLOOD_PPS}),
            kind="observed",
            attacker="outsider",
            victims=("dev01",),
            port=80,
            forged=True,
            cookies=False,
        ),
        *(
            Act(
                name=f"spoofed_flood_{'cookies' if cookies else 'plain'}",
                title=f"spoofed, cookies {'on' if cookies else 'off'}",
                story="from outside, every SYN with another sender; dev01's SYN cookies are "
                + ("on" if cookies else "off"),
                steps=_steps("spoofed_flood", {"flood": under_attack}, flood={"pps": FLOOD_PPS}),
                cookies=cookies,
                victims=("dev01",),
                kind="attack",
                attacker="outsider",
                forged=True,
                port=80,
                unprotected=OBSERVED,
            )
            for cookies in (True, False)
        ),
        Act(
            name="spoofed_flood_twin",
            title="  twin: power cut",
            story="the broker is down; twenty devices try again and again, then it is back",
            kind="twin",
            without_broker=True,
            steps=_steps(
                "dos_twin",
                {"outage": window_s + 1.0, "retries": window_s + 3.0},
                retries={"every_s": 0.06},
            ),
        ),
        Act(
            name="port_scan",
            title="port scan (nmap -sS)",
            story="bot looks for open ports of dev02, half open",
            steps=_steps("port_scan", {"scan": under_attack}, scan={"ports": "1-4000"}),
            victims=("dev02",),
            kind="attack",
            attacker="bot",
        ),
        Act(
            name="port_scan_twin",
            title="  twin: phone looks",
            story="a telephone looks which services of dev02 answer; most do not",
            kind="twin",
            steps=_steps("port_scan_twin", {"probe": window_s + 2.0}),
        ),
        Act(
            name="mirai",
            title="Mirai-style sweep",
            story="bot looks for telnet at every address of the devices' network",
            steps=_steps("mirai", {"sweep": under_attack}, sweep=MIRAI),
            victims=devices,
            kind="attack",
            attacker="bot",
        ),
        Act(
            name="mirai_twin",
            title="  twin: hub polls",
            story="the hub asks all twenty devices how they are, briefly",
            kind="twin",
            steps=_steps("mirai_twin", {"polls": window_s + 3.0}),
        ),
        Act(
            name="arp_spoof",
            title="ARP spoofing",
            story=f"bot tells the {'router' if bridged else 'gateway'} that it is the telephone",
            # It lies every two seconds, and several times after it should be contained.
            steps=_steps("arp_spoof", {"life": lies + 1.5, "spoof": lies}),
            poisons=(router, "phone"),
            victims=(router,),
            kind="attack",
            attacker="bot",
        ),
        Act(
            name="arp_spoof_twin",
            title="  twin: new card",
            story="a device gets a new network card and announces itself; the old one is silent",
            kind="twin",
            steps=_steps(
                "arp_twin",
                {"before": 1.5, "card": window_s + 3.0},
                card={"mac": f"02:1d:5e:00:01:{0xD0 + round_ % 46:02x}"},
            ),
        ),
    )


OBSERVED: Final = "spoofed_flood_unprotected"
FLOOD_PPS: Final = 5000
MIRAI: Final[dict[str, object]] = {"ports": "23,2323,5555,7547", "pps": 160, "shuffled": True}
"""Random order, and the pace of the source that was published (SCANNER_RAW_PPS)."""


def _steps(
    scenario: str, lasting: dict[str, float], **changed: dict[str, object]
) -> tuple[Step, ...]:
    """Return a scenario's steps with other lengths and some other parameters.

    They keep their order: the first begins at LEAD_S, the others as long after it as they did,
    but no later than one that has ended."""
    steps = sorted(read(scenario).steps, key=lambda step: step.at)
    first = steps[0].at
    found: list[Step] = []
    for step in steps:
        at = min([step.at - first + LEAD_S, *(s.at + s.seconds for s in found)])
        given = step.with_ | changed.get(step.id, {})
        seconds = lasting[step.id]
        found.append(msgspec.structs.replace(step, at=at, seconds=seconds, with_=given))
    return tuple(found)


def _step(id_: str, tool: str, who: tuple[str, ...], seconds: float, **what: object) -> Step:
    return Step(id=id_, at=0.0, seconds=seconds, who=who, tool=tool, with_=what)
