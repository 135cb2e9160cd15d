"""`ids-appliance lab`: one line and exit code 2 for what cannot be; up, shell and down."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from ids_appliance.cli import main
from ids_appliance.lab import namespaces, standing
from tests.net.namespaces import require

COMMAND = [sys.executable, "-m", "ids_appliance", "lab"]


def refused(*words: str) -> str:
    result = CliRunner().invoke(main, ["lab", *words])
    assert result.exit_code == 2
    lines = result.output.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("Error: ")
    return lines[0]


def test_list_needs_no_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces.os, "geteuid", lambda: 1000)
    result = CliRunner().invoke(main, ["lab", "list"])
    assert result.exit_code == 0
    assert re.search(r"syn_flood +attack", result.output)
    assert re.search(r"mirai_twin +twin of mirai", result.output)
    assert max(map(len, result.output.splitlines())) <= 100


def test_without_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces.os, "geteuid", lambda: 1000)
    for words in (["up"], ["run", "syn_flood"], ["shell", "bot"], ["down"]):
        assert "need root" in refused(*words)


def test_without_a_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces.os, "geteuid", lambda: 0)
    monkeypatch.setattr(namespaces.shutil, "which", lambda t: None if t == "arpspoof" else t)
    assert "apt-get install dsniff" in refused("run", "arp_spoof")


def test_no_such_scenario() -> None:
    assert "did you mean mirai?" in refused("run", "miray")


@pytest.fixture
def nothing_up() -> Iterator[None]:
    require("mosquitto", "iperf3", "dnsmasq")
    standing.end()
    yield
    standing.end()


@pytest.mark.net
def test_up_shell_down(nothing_up: None) -> None:
    assert "no lab is up" in refused("shell", "bot")
    keeper = subprocess.Popen([*COMMAND, "up"], stdout=subprocess.PIPE, text=True)
    try:
        assert "layout routed is up" in keeper.stdout.readline()
        assert f"a lab is up already (process {keeper.pid})" in refused("up")
        assert "there is no host 'mars'" in refused("shell", "mars")
        shown = subprocess.run(
            [*COMMAND, "shell", "bot", "ip", "-4", "-br", "addr", "show", "eth0"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "192.168.20.66/24" in shown.stdout
        failed = subprocess.run([*COMMAND, "shell", "bot", "false"], capture_output=True)
        assert failed.returncode == 1
        down = CliRunner().invoke(main, ["lab", "down"])
        assert down.exit_code == 0 and "the lab is down" in down.output
        assert keeper.wait(60) == 128 + 15
    finally:
        keeper.kill()
        keeper.wait()
        keeper.stdout.close()
    assert not [
        n for n in namespaces.present() if n.startswith(f"{namespaces.PREFIX}{keeper.pid}.")
    ]


@pytest.mark.net
def test_run_leaves_capture_labels_and_timeline(nothing_up: None, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        'name = "own"\nabout = "x"\n[[step]]\nid = "one"\nat = 0.0\nseconds = 0.5\n'
        'who = ["phone"]\ntool = "probe"\nwith = { target = "dev02", last = 9, every_s = 0.01 }\n'
    )
    out = tmp_path / "out"
    done = subprocess.run(
        [*COMMAND, "run", str(own), "--layout", "bridge", "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"start +one +ordinary, phone: probe", done.stdout)
    assert {p.name for p in out.iterdir()} == {"capture.pcap", "labels.json", "timeline.jsonl"}
    assert json.loads((out / "labels.json").read_text())["files"][0]["rules"] == []
