"""`panic` in a real kernel: a gateway killed in the middle leaves its tables, others' stay."""

import subprocess
import sys

import pytest

from tests.net.namespaces import Network, require

pytestmark = pytest.mark.net

DIES = """if 1:
    import os, time
    from ids_appliance.config import Enforce
    from ids_appliance.enforce.nftables import NftEnforcer
    from ids_appliance.enforce.protected import ProtectedSets
    from ids_appliance.types import Decision, Kind, Response, Subject

    enforcer = NftEnforcer(
        Enforce(), interfaces=["lan0"], protected=ProtectedSets((), (), ()), clock=time.monotonic
    )
    enforcer.open()
    subject = Subject(Kind.MAC, bytes.fromhex("020000000066"), "lan0")
    (applied,) = enforcer.apply([Decision(1, subject, Response.QUARANTINE, 600.0, "test")])
    assert applied.done, applied
    os.kill(os.getpid(), 9)
"""


def test_a_killed_gateways_tables_go_and_nobody_elses(tmp_path):
    require("nft")
    with Network("panic", "gw") as net:

        def inside(*words: str) -> subprocess.CompletedProcess[str]:
            command = net.command("gw", *words)
            return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

        net.ip("gw", "link add lan0 type veth peer name lan1", "link set lan0 up")
        assert inside("nft", "add table inet others").returncode == 0
        died = inside(sys.executable, "-c", DIES)
        assert died.returncode == -9, died.stderr
        assert "02:00:00:00:00:66" in inside("nft", "list", "ruleset").stdout
        run_dir = tmp_path / "run"
        panic = [sys.executable, "-m", "ids_appliance", "panic", "--run-dir", str(run_dir)]
        done = inside(*panic)
        assert done.returncode == 0, done.stderr
        assert "no gateway is running" in done.stdout and "Removed from the kernel" in done.stdout
        assert inside("nft", "list", "tables").stdout == "table inet others\n"
        assert (run_dir / "panic").exists()
        again = inside(*panic)
        assert again.returncode == 0 and "Nothing of ours was in the kernel" in again.stdout


LIVES = DIES.replace("os.kill(os.getpid(), 9)", "print(flush=True)\n    open(0).read()")


@pytest.mark.nightly
def test_a_gateway_that_lives_elsewhere_is_told(tmp_path):
    require("nft")
    with Network("panic", "gw") as net:
        net.ip("gw", "link add lan0 type veth peer name lan1", "link set lan0 up")
        command = net.command("gw", sys.executable, "-c", LIVES)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, **pipes) as gateway:
            assert gateway.stdout.readline() == "\n"
            panic = [sys.executable, "-m", "ids_appliance", "panic", "--run-dir", str(tmp_path)]
            done = subprocess.run(
                net.command("gw", *panic), capture_output=True, text=True, timeout=300, check=False
            )
            gateway.stdin.close()
        assert done.returncode == 2, done.stdout + done.stderr
        assert "is a gateway with another run directory" in done.stderr
