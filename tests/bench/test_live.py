"""The live benchmark over real ssh into namespaces: the mode toggled and restored."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ids_appliance.bench import live_sender
from ids_appliance.bench.bed import GATEWAY, NODE, START_S, Bed
from ids_appliance.bench.inventory import Host, Inventory, read
from ids_appliance.bench.live import Live, covers, look, sent_of, step
from ids_appliance.bench.modes import MODES, PORTS, configuration, connect
from ids_appliance.bench.remote import Ssh
from ids_appliance.bench.sender import Sent
from ids_appliance.errors import LabError
from ids_appliance.gateway.client import Client
from ids_appliance.gateway.messages import AskStatus
from tests.net.namespaces import require

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "iot-top20"
COUNTERS = {"judged": 100, "shed": 1, "unanswered": 2, "kernel_drops": 3, "screened": 0}
PROC = (
    "7 (a ) b) S 1 1 1 0 -1 0 0 0 0 0 250 50 0 0 20 0\n----\n"
    "Name:\tids\nVmRSS:\t   10240 kB\n----\n"
    "cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1\ncpu1 1\nintr 5\n----\n"
    "MemTotal: 1000 kB\nMemAvailable: 740 kB\n"
)
OF = ("offloaded", "live")
SENT = Sent(100, 10.0, 1000, 0, 0, 0)


def test_a_look_reads_the_gateways_own_figures():
    found = look(PROC, COUNTERS, arrived=5, sent=6)
    assert (found.cpu_ticks, found.busy, found.cores) == (300, 200, 2)
    assert found.resident_mib == 10 and found.memory_percent == pytest.approx(26)
    assert found.lost == 6


NONSENSE = ["", "x\n----\n", "----\n" * 4]
NONSENSE += [PROC.replace("MemTotal", "Mem"), PROC.replace("VmRSS", "Vm")]


@pytest.mark.parametrize("text", NONSENSE)
def test_what_makes_no_sense_is_an_error_of_ours(text):
    with pytest.raises(LabError, match="makes no sense"):
        look(text, COUNTERS, arrived=0, sent=0)


def test_other_traffic_hides_no_loss():
    before = look(PROC, COUNTERS, arrived=0, sent=0)
    after = look(PROC, COUNTERS | {"judged": 9000, "shed": 11}, arrived=2000, sent=1000)
    found = step(OF, SENT, before=before, after=after)
    assert found.forwarded == 1000 and found.judged == 990
    assert found.verdict.name == "LOST"


def test_what_is_screened_before_the_rules_open_the_window_is_no_loss_as_published():
    before = look(PROC, COUNTERS, arrived=0, sent=0)
    counters = COUNTERS | {"judged": 700, "screened": 400}
    after = look(PROC, counters, arrived=1000, sent=1000)
    assert step(OF, SENT, before=before, after=after).judged == 600
    found = step(OF, SENT, before=before, after=after, own=False)
    assert found.judged == 1000 and found.verdict.name == "HELD"


def test_the_machines_share_is_of_the_time_in_which_packets_came():
    before = look(PROC, COUNTERS, arrived=0, sent=0)
    busy = PROC.replace("cpu  100", "cpu  1100").replace("700", "9700")
    found = step(OF, SENT, before=before, after=look(busy, COUNTERS, arrived=0, sent=0))
    assert found.machine_percent == 50  # 10 s of 20, whatever passed before and afterwards


def test_a_generator_says_what_it_has_sent():
    said = '.\n.\n{"packets": 90, "refused": 1, "given_up": 10, "seconds": 2.5}\n'
    assert sent_of(said, 40) == Sent(40, 2.5, 90, 1, 10, 0)
    for nonsense in ("", ".\n", "{}", "[]", '{"packets": "many"}'):
        with pytest.raises(LabError, match="does not say"):
            sent_of(nonsense, 40)


class Clock:
    """A clock that goes on some microseconds a look, and as long as somebody sleeps."""

    def __init__(self, stall_ns=0):
        self.now_ns, self.looks, self.stall_ns = 0, 0, stall_ns

    def monotonic_ns(self):
        self.looks += 1
        self.now_ns += 5000 + (self.stall_ns if self.looks == 100 else 0)
        return self.now_ns

    def sleep(self, seconds):
        self.now_ns += round(seconds * 1e9) + 60_000  # nobody wakes up at once


class Wire:
    def __init__(self, room=1 << 30):
        self.room, self.taken = room, 0

    def send(self, frame):
        self.taken += 1
        if self.taken > self.room:
            raise OSError("no buffer space")


@pytest.mark.parametrize(
    ("pps", "seconds"), [(100, 10), (1000, 10), (15_000, 1), (19_500, 1), (100_000, 0.2)]
)
def test_the_rate_that_is_asked_for_is_offered(pps, seconds, monkeypatch):
    monkeypatch.setattr(live_sender, "time", Clock())
    told, n = live_sender.transmit(Wire(), [b""], pps=pps, seconds=seconds), round(pps * seconds)
    assert told["packets"] == n and told["given_up"] == 0
    looks = [look(PROC, COUNTERS | {"judged": k}, arrived=k, sent=k) for k in (0, n)]
    found = step(OF, sent_of(json.dumps(told), pps), before=looks[0], after=looks[1])
    assert found.verdict.name == "HELD"


def test_what_cannot_be_sent_in_time_is_given_up_and_what_is_refused_is_counted(monkeypatch):
    monkeypatch.setattr(live_sender, "time", Clock(stall_ns=500_000_000))
    told = live_sender.transmit(Wire(room=500), [b""], pps=10_000, seconds=1)
    assert told["packets"] + told["given_up"] == 10_000 and told["given_up"] > 4000
    assert told["refused"] == told["packets"] - 500


def test_its_frames_are_what_hosts_take():
    ends = bytes([192, 0, 2, 1, 198, 51, 100, 2])
    packet = live_sender.syn(random.Random(1), ends, 80)
    assert len(packet) == 40 and packet[12:20] == ends and packet[33] == 2
    assert live_sender.words_of(packet[:20]) == 0xFFFF
    assert live_sender.words_of(ends + bytes([0, 6, 0, 20]) + packet[20:]) == 0xFFFF


def test_the_allowed_may_be_networks():
    assert covers("192.0.2.66", "192.0.2.66") and covers("192.0.2.0/24", "192.0.2.66")
    assert not any(covers(one, "192.0.2.66") for one in ("192.0.2.6", "02:00:00:00:00:01", "::/0"))


class Hosts:
    """Three hosts that answer at once: a Transport."""

    def __init__(self, **status):
        self.status = {"mode": "offloaded", "pid": 7, "counters": COUNTERS} | status
        self.allowed = []
        self.screened = 0
        self.asked = []

    def run(self, host, words, *, limit_s=30.0):
        self.asked.append((host.role, words))
        if words[:2] == ["ids-appliance", "status"]:
            self.screened += self.status.get("passes", 0)
            counters = self.status["counters"] | {"screened": self.screened}
            return json.dumps(self.status | {"counters": counters})
        if words[:2] == ["ids-appliance", "allow"]:
            return json.dumps({"entries": [{"text": text} for text in self.allowed]})
        if words[0] == "ip":
            return "2: eth0    inet 198.51.100.9/24 scope global eth0"
        if words[0] == "cat":
            return "1000\n"
        if "python3 -c" in words[-1]:
            return '{"packets": 1000, "refused": 0, "given_up": 0, "seconds": 10.0}\n'
        return PROC if "/proc" in words[-1] else ""


THREE = Inventory(
    Host("generator", "g", "192.0.2.66", "eth0"),
    Host("gateway", "w", "192.0.2.1", ""),
    Host("sink", "s", "198.51.100.9", "eth0"),
)


def test_a_gateway_that_would_cut_the_generator_off_is_not_measured():
    hosts = Hosts(enforcing=True)
    with pytest.raises(LabError, match="allow add 192.0.2.66"):
        Live(THREE, hosts).check()
    hosts.allowed.append("192.0.2.0/24")
    assert Live(THREE, hosts).check()["mode"] == "offloaded"
    assert not any("python3 -c" in words[-1] for _, words in hosts.asked)


@pytest.mark.parametrize("profile", ["own", "paper"])
def test_a_window_that_closes_under_way_is_told(profile):
    hosts = Hosts(passes=500)
    live = Live(THREE, hosts, profile=profile)
    if profile == "paper":
        live.run(MODES["gateway-only"], "live", 100, 10)
        return
    with pytest.raises(LabError, match='500 of 1,000 packets: give it trigger.kind = "always"'):
        live.run(MODES["gateway-only"], "live", 100, 10)


def test_zeek_comes_back_even_where_the_mode_does_not():
    class Stubborn(Hosts):
        zeek = "active"

        def run(self, host, words, *, limit_s=30.0):
            if words[-1].startswith("systemctl is-active"):
                return self.zeek
            if words[:2] == ["systemctl", "stop"]:
                self.zeek = "inactive"
            elif words[:2] == ["systemctl", "start"]:
                self.zeek = "active"
            elif words[:2] == ["ids-appliance", "mode"] and words[2] == "offloaded":
                raise LabError("it does not answer")
            return super().run(host, words, limit_s=limit_s)

    hosts = Stubborn()
    live = Live(THREE, hosts, profile="paper")
    with pytest.raises(LabError, match="does not answer"), live.restored():
        live.switch("gateway-only")
        assert hosts.zeek == "inactive"
    assert hosts.zeek == "active"


# Over ssh ----------------------------------------------------------------------------------------


@pytest.fixture
def hosts(tmp_path):
    """A bed whose namespaces are reached by ssh: its daemon is started for each connection, on the
    connection itself, so that no port is opened anywhere."""
    require()
    for tool in ("ssh", "sshd", "ssh-keygen"):
        if shutil.which(tool) is None:
            pytest.skip(f"not installed: {tool} (openssh-server)")
    Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("host", "user"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]
        subprocess.run(words, check=True)
    public = (tmp_path / "user.pub").read_text()
    (tmp_path / "authorized").write_text(public)
    tools = tmp_path / "bin"
    tools.mkdir()
    run_dir = tmp_path / "run"
    ours = tools / "ids-appliance"
    ours.write_text(f'#!/bin/sh\nexec {sys.executable} -m ids_appliance "$@" --run-dir {run_dir}\n')
    ours.chmod(0o755)
    (tmp_path / "sshd_config").write_text(
        f"HostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/authorized\nStrictModes no\n"
        f"UsePAM no\nPermitRootLogin yes\n"
        f"SetEnv PATH={tools}:/usr/sbin:/usr/bin:/sbin:/bin PYTHONPATH={ROOT}\n"
    )
    (tmp_path / "known").write_text(f"* {(tmp_path / 'host.pub').read_text()}")
    return tmp_path


@pytest.mark.net
@pytest.mark.nightly
def test_over_ssh(hosts):
    sshd = shutil.which("sshd")
    with Bed() as bed:
        bed.settle()
        lines = []
        for name in ("gen", GATEWAY, "sink"):
            words = " ".join(bed.command(name, str(sshd), "-i", "-f", f"{hosts}/sshd_config"))
            lines.append(f"Host {name}\n  ProxyCommand {words}\n")
        common = f"Host *\n  User root\n  IdentityFile {hosts}/user\n"
        common += f"  IdentitiesOnly yes\n  UserKnownHostsFile {hosts}/known\n"
        (hosts / "ssh_config").write_text("".join(lines) + common)
        (hosts / "hosts.toml").write_text(
            '[generator]\nssh = "gen"\naddress = "198.18.0.2"\ninterface = "eth0"\n'
            '[gateway]\nssh = "gw"\naddress = "198.18.0.1"\n'
            '[sink]\nssh = "sink"\naddress = "198.18.1.2"\ninterface = "eth0"\n'
        )
        config = hosts / "gateway.toml"
        listen = f"{NODE}:{PORTS['appliance']}"
        words = [sys.executable, "-m", "ids_appliance", "classifier", "--listen", listen]
        node = bed.process("node", *words, "--plaintext", "--model", str(MODEL))
        while not node.line(START_S).startswith("listening on "):
            pass
        config.write_text(configuration(MODES["offloaded"], MODEL, hosts))
        words = [sys.executable, "-m", "ids_appliance", "gateway", "--config", str(config)]
        gateway = bed.process(GATEWAY, *words)
        try:
            connect(gateway, hosts / "run").close()
            with Ssh(hosts, options=("-F", str(hosts / "ssh_config"))) as ssh:
                live = Live(read(hosts / "hosts.toml"), ssh)
                assert live.check()["mode"] == "offloaded"
                with pytest.raises(KeyboardInterrupt), live.restored():
                    step = live.run(MODES["gateway-only"], "live", 200, 2)
                    assert mode_of(hosts) == "gateway-only"
                    raise KeyboardInterrupt
            assert mode_of(hosts) == "offloaded"
        finally:
            gateway.close()
            node.close()
    # How many of them in time is the machine's affair.
    assert step.sent.packets + step.sent.given_up == 400 and step.sent.packets > 0
    assert step.forwarded == step.sent.packets
    assert step.judged == step.sent.packets and step.counters["lost"] == 0


def mode_of(hosts: Path) -> str:
    with Client(hosts / "run") as client:
        return client.ask(AskStatus()).mode
