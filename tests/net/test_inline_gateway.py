"""The gateway process with packets held for their verdict: attacked, killed, panicked, stopped."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ids_appliance.enforce.nft import Nft
from ids_appliance.enforce.queue_rule import TABLE
from ids_appliance.errors import LabError
from ids_appliance.lab.namespaces import require
from tests.campaigns import inline as campaign
from tests.net.namespaces import Network, wait_for
from tests.net.packets import conversation
from tests.net.test_inline_source import frames_from

pytestmark = pytest.mark.net

WAN = "198.51.100.2"
SERVE = (
    "import socket\ns = socket.create_server(('', 443))\nprint('up', flush=True)\n"
    "while True:\n c = s.accept()[0]\n"
    " while (d := c.recv(100)):\n  c.sendall(d)\n"
)
TALK = (
    "import socket, sys\nc = socket.create_connection(('198.51.100.2', 443), 60)\n"
    "for line in sys.stdin:\n c.sendall(b'x' * 50)\n"
    " n = 0\n while n < 50:\n  n += len(c.recv(100))\n print('ok', flush=True)\n"
)


@pytest.fixture(autouse=True)
def tools(privileged: None) -> None:
    try:
        require("hping3", "ping")
    except LabError as error:
        pytest.skip(str(error))


def ping(net: Network) -> int:
    """Return how many of five pings, with nothing random in them, the far side answers."""
    words = ["ping", "-n", "-s", "8", "-c", "5", "-i", "0.05", "-w", "60", WAN]
    said = subprocess.run(net.command("lan", *words), capture_output=True, text=True, check=False)
    return said.stdout.count("bytes from")


def drops(where: Path) -> list[dict]:
    lines = (where / "state" / "events.jsonl").read_bytes().splitlines()
    return [e for e in map(json.loads, lines) if e["event_type"] == "drop"]


def traffic(counts: dict[str, int]) -> bool:
    """Say whether each frame was counted by its protocol, after its verdict."""
    by_protocol = [n for name, n in counts.items() if name.startswith("traffic_packets_")]
    return sum(by_protocol) == counts["delivered"] > 0


def there(net: Network) -> bool:
    with net.inside("gw"):
        return TABLE in Nft().run("list tables")


def test_attack_dropped_ordinary_passes_kill_and_stop_leave_it_flowing(
    routed: Network, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(campaign, "PROFILE", "paper")
    with campaign.gateway(routed, tmp_path, bypass=False) as process:
        assert ping(routed) == 5
        # hping3's ports would begin anywhere.
        words = ["hping3", "-q", "-S", "-s", "2000", "-p", "80", "-i", "u500", "-c", "200", WAN]
        subprocess.run(routed.command("lan", *words), capture_output=True, check=False)
        wait_for(lambda: len(drops(tmp_path)) >= 50)
        assert ping(routed) == 5, "packets are dropped, nobody is cut off"
        one = drops(tmp_path)[0]
        assert (one["src_ip"], one["dest_ip"], one["dest_port"]) == ("192.0.2.2", WAN, 80)
        assert one["drop"]["reason"] == "judged malicious" and one["drop"]["probability"] > 0.5
        counts = campaign.status(tmp_path)
        assert counts["queue_dropped"] >= 190
        assert counts["queue_received"] == (
            counts["queue_accepted"] + counts["queue_dropped"] + counts["queue_held"]
        )
        wait_for(lambda: traffic(campaign.status(tmp_path)))
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    assert there(routed) and ping(routed) == 5
    with campaign.gateway(routed, tmp_path, bypass=False):
        assert ping(routed) == 5
        assert campaign.status(tmp_path)["queue_accepted"] >= 10
    assert not there(routed) and ping(routed) == 5


@pytest.mark.nightly
def test_a_connection_judged_clean_passes_beside_the_queue_and_panic_ends_all(
    routed: Network, tmp_path: Path
) -> None:
    server = subprocess.Popen(
        routed.command("wan", sys.executable, "-c", SERVE), stdout=subprocess.PIPE, text=True
    )
    client = None
    try:
        server.stdout.readline()
        with campaign.gateway(routed, tmp_path, bypass=True, bypass_packets=4):
            client = subprocess.Popen(
                routed.command("lan", sys.executable, "-c", TALK),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )

            def beside() -> bool:
                client.stdin.write("\n")
                client.stdin.flush()
                assert client.stdout.readline() == "ok\n"
                return campaign.status(tmp_path)["forward_clean"] > 0

            wait_for(beside)
            assert campaign.status(tmp_path)["bypass_passed"] >= 1
            words = [sys.executable, "-m", "ids_appliance", "panic", "--run-dir"]
            done = subprocess.run(
                routed.command("gw", *words, str(tmp_path / "run")), capture_output=True, check=True
            )
            assert done.stdout
            assert not there(routed)
            client.stdin.write("\n")
            client.stdin.flush()
            assert client.stdout.readline() == "ok\n"
    finally:
        for one in (client, server):
            if one is not None:
                one.kill()
                one.communicate()


@pytest.mark.nightly
def test_a_node_that_hangs_holds_nobody_up(routed: Network, tmp_path: Path) -> None:
    listen = "127.0.0.1:7447"
    words = [sys.executable, "-m", "ids_appliance", "classifier", "--model", str(campaign.MODEL)]
    node = subprocess.Popen(
        routed.command("gw", *words, "--listen", listen, "--plaintext"), stderr=subprocess.DEVNULL
    )
    routed.ip("gw", "link set lo up")
    more = f'mode = "offloaded"\nnode = {{ addresses = ["{listen}"], plaintext = true }}\n'
    try:
        with campaign.gateway(routed, tmp_path, more=more):

            def judged_by_the_node() -> bool:
                counts = campaign.status(tmp_path)
                return ping(routed) == 5 and counts["classifier_answered"] > 0

            wait_for(judged_by_the_node)
            node.send_signal(signal.SIGSTOP)
            frames_from(routed, "lan", "lan0", conversation(to_wan=True))

            def late() -> bool:
                return campaign.status(tmp_path)["inline_late"] > 0

            wait_for(late)
            assert ping(routed) == 5
            wait_for(lambda: campaign.status(tmp_path)["queue_held"] == 0)
    finally:
        node.kill()
        node.wait()


@pytest.mark.nightly
def test_a_missing_package_is_one_line_and_exit_code_2(routed: Network, tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(
        f'interfaces = ["lan0"]\nmodel = "{campaign.MODEL}"\nstate_dir = "{tmp_path}/state"\n'
        f'run_dir = "{tmp_path}/run"\ninline = {{ enabled = true, reader = "package" }}\n'
    )
    call = (
        "import sys; sys.modules['netfilterqueue'] = None; from ids_appliance.cli import main; "
        f"main(['gateway', '--config', '{config}'], prog_name='ids-appliance')"
    )
    done = subprocess.run(
        routed.command("gw", sys.executable, "-c", call),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "libnetfilter-queue-dev" in done.stderr
    assert not there(routed)
