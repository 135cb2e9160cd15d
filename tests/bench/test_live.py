"""The live benchmark over real ssh into namespaces: the mode toggled and restored."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ids_appliance.bench.bed import GATEWAY, NODE, START_S, Bed
from ids_appliance.bench.inventory import read
from ids_appliance.bench.live import Live, Offered, look, step, took_s
from ids_appliance.bench.modes import MODES, PORTS, configuration, connect
from ids_appliance.bench.remote import Ssh
from ids_appliance.errors import LabError
from ids_appliance.gateway.client import Client
from ids_appliance.gateway.messages import AskStatus
from tests.net.namespaces import require

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "iot-top20"
COUNTERS = {"judged": 100, "shed": 1, "unanswered": 2, "kernel_drops": 3}
PROC = (
    "7 (a ) b) S 1 1 1 0 -1 0 0 0 0 0 250 50 0 0 20 0\n----\n9 2560 0\n----\n"
    "cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1\n----\nMemTotal: 1000 kB\nMemAvailable: 740 kB\n"
)


def test_a_look_reads_the_gateways_own_figures():
    found = look(PROC, COUNTERS, arrived=5, sent=6)
    assert (found.cpu_ticks, found.busy, found.total) == (300, 200, 1000)
    assert found.resident_mib == 10 and found.memory_percent == pytest.approx(26)
    assert found.lost == 6


@pytest.mark.parametrize("text", ["", "x\n----\n", PROC.replace("MemTotal", "Mem"), "----\n" * 4])
def test_what_makes_no_sense_is_an_error_of_ours(text):
    with pytest.raises(LabError, match="makes no sense"):
        look(text, COUNTERS, arrived=0, sent=0)


def test_other_traffic_hides_no_loss():
    before = look(PROC, COUNTERS, arrived=0, sent=0)
    after = look(PROC, COUNTERS | {"judged": 9000, "shed": 11}, arrived=2000, sent=1000)
    found = step(("offloaded", "live"), Offered(100, 1000, 10), before=before, after=after)
    assert found.forwarded == 1000 and found.judged == 990
    assert found.verdict.name == "LOST"


def test_a_generators_own_clock_counts():
    assert took_s("@1\n@1000000000\n12 packets\n@3500000000\n") == 2.5
    for said in ("", "@1\n", "@1\n@x\n"):
        with pytest.raises(LabError, match="how long"):
            took_s(said)


# Over ssh ----------------------------------------------------------------------------------------


@pytest.fixture
def hosts(tmp_path):
    """A bed whose namespaces are reached by ssh: its daemon is started for each connection, on the
    connection itself, so that no port is opened anywhere."""
    require("trafgen")
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
    assert step.sent.packets == 400 and step.forwarded == step.sent.packets
    assert step.judged == step.sent.packets and step.counters["lost"] == 0


def mode_of(hosts: Path) -> str:
    with Client(hosts / "run") as client:
        return client.ask(AskStatus()).mode
