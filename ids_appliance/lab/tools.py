"""One function per real tool: a host and what it is to do in, a bounded process out.

Each tool has a struct of parameters, so that a scenario's unknown or ill-typed key is refused by
name, and each is bounded twice: in packets or time by its own options, in time by timeout(1).
"""

import gzip
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from ids_appliance.errors import LabError
from ids_appliance.lab.layouts import Segment
from ids_appliance.lab.network import Lab
from ids_appliance.lab.running import Command

ROUTER_OF: Final = "@router"
GRACE_S: Final = 5.0
"""How long after its time a tool is ended by force."""
Pps = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
Interval = Annotated[float, msgspec.Meta(gt=0, le=600)]
Flags = Annotated[str, msgspec.Meta(pattern="^[SFRPAU]+$")]
Ports = Annotated[str, msgspec.Meta(pattern=r"^\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*$")]


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a scenario may say about a tool."""


class Flood(Parameters, frozen=True):
    """hping3 and trafgen: TCP packets at about `pps`."""

    target: str
    port: Port = 80
    pps: Pps = 2000
    flags: Flags = "S"
    """Letters of SFRPAU."""
    spoof: str = ""
    """"random": another source address each; an address: always that one; empty: its own."""


class Scan(Parameters, frozen=True):
    """nmap."""

    targets: str
    """A host or a segment's name (iot, home): all its 254 addresses."""
    ports: Ports = "1-100"
    kind: Literal["syn", "connect"] = "syn"
    pps: Pps = 200
    ping: bool = False
    """Look first who is there."""
    shuffled: bool = False
    """Hosts in random order, as Mirai's scanner takes them."""


class Spoof(Parameters, frozen=True):
    """arpspoof: tell `target` that `claim` is here; with `both` also the other way round.

    "@router" is the host's own router.
    """

    target: str
    claim: str
    both: bool = False


class Replay(Parameters, frozen=True):
    """tcpreplay: a capture file (.pcap or .pcap.gz), as it is."""

    capture: str
    pps: Pps = 500
    packets: Annotated[int, msgspec.Meta(ge=1)] = 10_000


class Transfer(Parameters, frozen=True):
    """curl: a file of so many bytes from the server's web server."""

    target: str = "server"
    mib: Literal[1, 50] = 50
    mbit: Annotated[int, msgspec.Meta(ge=1)] = 80


class Stream(Parameters, frozen=True):
    """iperf3: towards the host that asks."""

    target: str = "server"
    mbit: Annotated[float, msgspec.Meta(gt=0)] = 20.0
    udp: bool = False


class Telemetry(Parameters, frozen=True):
    """mosquitto_pub: a reading every `every_s` over one connection, QoS 1."""

    broker: str = "server"
    every_s: Interval = 1.0


class Subscribe(Parameters, frozen=True):
    """mosquitto_sub: everything that the broker has."""

    broker: str = "server"


def start(
    lab: Lab,
    host: str,
    words: list[str],
    *,
    seconds: float,
    allowed: tuple[int, ...] = (0,),
    patience_s: float = 3.0,
) -> Command:
    """Start a tool on a host for at most so long; what it says on stderr is kept."""
    number = len(list(lab.directory.glob("stderr-*")))
    errors = lab.directory / f"stderr-{number}"
    with errors.open("wb") as file:
        process = lab.popen(host, words, limit_s=seconds + GRACE_S, stderr=file)
    return Command(process, errors, allowed=allowed, patience_s=patience_s)


def hping3(lab: Lab, host: str, what: Flood, seconds: float) -> Command:
    """Send TCP packets from one source or with forged ones. One process reaches about 10 kpps."""
    words = ["hping3", "-q", "-n", "-p", str(what.port), "-i", f"u{1_000_000 // what.pps}"]
    words += [f"-{flag}" for flag in what.flags]
    words += ["-c", str(max(1, round(what.pps * seconds)))]
    if what.spoof:
        words += ["--rand-source"] if what.spoof == "random" else ["-a", what.spoof]
    words.append(address(lab, what.target))
    return start(lab, host, words, seconds=seconds, allowed=(0, 1))  # 1: nobody answered


def trafgen(lab: Lab, host: str, what: Flood, seconds: float) -> Command:
    """Send TCP packets from a packet socket: faster than hping3, every field of its own."""
    names = {"S": "syn", "F": "fin", "R": "rst", "P": "psh", "A": "ack", "U": "urg"}
    source = {"random": "drnd()", "": lab.address(host)}.get(what.spoof, what.spoof)
    hop = lab.next_hop_mac(host, what.target).hex(":")
    flags = ", ".join(names[flag] for flag in what.flags)
    path = lab.directory / f"trafgen-{host}-{what.port}.cfg"
    path.write_text(
        f"{{ eth(da={hop}, sa={lab.mac(host).hex(':')}),\n"
        f"  ipv4(ttl=64, id=drnd(), sa={source}, da={address(lab, what.target)}),\n"
        f"  tcp(sp=drnd(), dp={what.port}, seq=drnd(), win=512, {flags}) }}\n"
    )
    # Its --rate sends a second's packets at once; the gap between two is kept far better.
    words = ["trafgen", "-c", str(path), "-o", "eth0", "-P", "1", "-C"]
    words += ["-t", f"{1_000_000 // what.pps}us", "-n", str(max(1, round(what.pps * seconds)))]
    return start(lab, host, words, seconds=seconds)


def nmap(lab: Lab, host: str, what: Scan, seconds: float) -> Command:
    """Scan ports, half open (-sS) or with whole connections of the real stack (-sT)."""
    kind = {"syn": "-sS", "connect": "-sT"}[what.kind]
    words = ["nmap", "-n", kind, "-T4", "--max-retries", "1", "--max-rate", str(what.pps)]
    words += [] if what.ping else ["-Pn", "--disable-arp-ping"]
    words += ["--randomize-hosts"] if what.shuffled else []
    words += ["--min-hostgroup", "64", "-p", what.ports, targets(lab, what.targets)]
    return start(lab, host, words, seconds=seconds)


def arpspoof(lab: Lab, host: str, what: Spoof, seconds: float) -> Command:
    """Claim another's address (RFC 826 knows no proof), and relay what comes.

    It ends at once, without taking back what it has claimed: an attacker would not.
    """
    lab.write(host, "net/ipv4/ip_forward", "1")
    lab.write(host, "net/ipv4/conf/all/send_redirects", "0")
    lab.write(host, "net/ipv4/conf/eth0/send_redirects", "0")
    words = ["arpspoof", "-i", "eth0", *(["-r"] if what.both else [])]
    words += ["-t", *(address(lab, w, seen_from=host) for w in (what.target, what.claim))]
    return start(lab, host, words, seconds=seconds, patience_s=0.0)


def tcpreplay(lab: Lab, host: str, what: Replay, seconds: float) -> Command:
    """Send a capture's frames as they stand."""
    path = Path(what.capture)
    if not path.is_file():
        raise LabError(f"no capture {what.capture} to replay")
    if path.suffix == ".gz":
        plain = lab.directory / path.stem
        plain.write_bytes(gzip.decompress(path.read_bytes()))
        path = plain
    words = ["tcpreplay", "-q", "-i", "eth0", "--pps", str(what.pps)]
    words += ["--limit", str(what.packets), "--duration", str(max(1, round(seconds))), str(path)]
    return start(lab, host, words, seconds=seconds)


def curl(lab: Lab, host: str, what: Transfer, seconds: float) -> Command:
    """Download a file of the server's, no faster than told; goodput is the server's log's."""
    url = f"http://{address(lab, what.target)}/{what.mib}MiB.bin"
    words = ["curl", "--silent", "--show-error", "--fail", "--output", "/dev/null"]
    words += ["--limit-rate", f"{what.mbit * 125_000}", "--max-time", f"{seconds}", url]
    return start(lab, host, words, seconds=seconds, allowed=(0, 28))  # 28: its time was over


def iperf3(lab: Lab, host: str, what: Stream, seconds: float) -> Command:
    """Let the server send at a steady rate."""
    words = ["iperf3", "-c", address(lab, what.target), "-R", "-b", f"{what.mbit}M"]
    words += ["-t", f"{seconds:g}", *(["-u"] if what.udp else []), "--connect-timeout", "3000"]
    return start(lab, host, words, seconds=seconds)


def mosquitto_pub(lab: Lab, host: str, what: Telemetry, seconds: float) -> Command:
    """Publish readings over one connection that stays."""
    words = ["mosquitto_pub", "-h", address(lab, what.broker), "-i", host, "-t", f"home/{host}"]
    words += ["-q", "1", "-k", "10", "-m", f'{{"id": "{host}", "t": 21.5, "n": 1}}']
    words += ["--repeat", str(max(1, round(seconds / what.every_s)))]
    words += ["--repeat-delay", f"{what.every_s}"]
    return start(lab, host, words, seconds=seconds)


def mosquitto_sub(lab: Lab, host: str, what: Subscribe, seconds: float) -> Command:
    """Listen to all topics."""
    words = ["mosquitto_sub", "-h", address(lab, what.broker), "-i", f"{host}-sub", "-t", "#"]
    words += ["-k", "10", "-W", str(max(1, round(seconds)))]
    return start(lab, host, words, seconds=seconds, allowed=(0, 27))  # 27: its time was over


def address(lab: Lab, word: str, *, seen_from: str = "") -> str:
    """Return the IPv4 address of a host's name; what is no name stands for itself.

    ROUTER_OF is the router of the host that asks.
    """
    if word == ROUTER_OF:
        return lab.next_hop(lab.segment(seen_from))
    return lab.address(word) if word in lab.hosts else word


def targets(lab: Lab, word: str) -> str:
    """Return what nmap calls it: a host's address, a segment's network, or the word itself."""
    segments: dict[str, Segment] = {"iot": "iot", "home": "home", "outside": "outside"}
    if word in segments:
        return str(lab.net(segments[word]).v4)
    return address(lab, word)
