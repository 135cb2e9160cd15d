"""The demo: live it leaves nothing behind however it ends; recorded both modes agree."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from ids_appliance.lab.demo.show import TOOLS
from ids_appliance.lab.namespaces import PREFIX, present, sweep
from tests.net.namespaces import require


def test_the_recorded_demo_agrees_and_leaves_nothing_running(started, model, tmp_path):
    done = started("demo", "--recorded", "--model", model, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert text.count("bit for bit") == 3
    assert max(map(len, text.splitlines())) <= 100
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert figures["json_bytes_per_packet"] > 20 * figures["link_bytes_per_packet"] > 0
    assert (tmp_path / "out" / "verdicts.png").read_bytes().startswith(b"\x89PNG")
    running = [p.info["cmdline"] or [] for p in psutil.process_iter(["cmdline"])]
    assert not [c for c in running if str(model) in c and "classifier" in c]


def test_where_it_cannot_be_live_it_says_why_and_judges_a_recording(started, model, tmp_path):
    for tool in ("ip", "unshare", "timeout"):
        if where := shutil.which(tool):
            (tmp_path / tool).symlink_to(where)
    environment = os.environ | {"PATH": str(tmp_path)}
    done = started("demo", "--model", model, "--out", tmp_path / "out", env=environment)
    assert done.returncode == 0, done.stderr
    first = done.stdout.decode().splitlines()[0]
    assert first.startswith("No live demo here: ") and "A recorded attack instead" in first
    if os.geteuid() == 0:
        assert "not installed: " in first and "hping3" in first
        assert "apt-get install" in first and "dsniff" in first


@pytest.fixture
def playing(tmp_path):
    """A live demo that has its gateway running."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    require()
    command = [sys.executable, "-m", "ids_appliance", "demo", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )
    try:
        for line in process.stdout:
            if "gateway and node run" in line:
                break
        assert process.poll() is None
        yield process
    finally:
        process.kill()
        process.communicate()
        sweep()


def namespaces(process):
    """Return the names of a demo's namespaces that are still there."""
    return [name for name in present() if name.startswith(f"{PREFIX}{process.pid}.")]


def scratch(process):
    """Return its folders of scratch files."""
    return list(Path(tempfile.gettempdir()).glob(f"{PREFIX}{process.pid}.*"))


@pytest.mark.net
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_demo_that_is_stopped_leaves_nothing(playing, number):
    inside = psutil.Process(playing.pid).children(recursive=True)
    assert len(inside) > 5
    playing.send_signal(number)
    playing.communicate(timeout=120)
    assert playing.returncode not in (0, -number), "it has ended in its own way"
    assert namespaces(playing) == [] and scratch(playing) == []
    assert psutil.wait_procs(inside, timeout=60)[1] == []


@pytest.mark.net
def test_what_a_killed_demo_leaves_the_next_start_sweeps(playing):
    inside = psutil.Process(playing.pid).children(recursive=True)
    playing.kill()
    playing.wait()
    assert namespaces(playing) and scratch(playing)
    sweep()
    assert namespaces(playing) == [] and scratch(playing) == []
    assert psutil.wait_procs(inside, timeout=60)[1] == []
