"""What cannot be measured is one line and exit code 2, before anything is built."""

import os
import shutil

import pytest
from click.testing import CliRunner

from ids_appliance.bench import modes
from ids_appliance.cli import main
from ids_appliance.lab import namespaces

pytest.importorskip("psutil")


@pytest.fixture
def refused(monkeypatch, tmp_path):
    """Run `bench` as somebody who must not get as far as building; return the line it ends with."""

    def run(*options: str) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(namespaces.Network, "__enter__", lambda self: pytest.fail("it builds"))
            done = CliRunner().invoke(main, ["bench", "--out", str(tmp_path / "out"), *options])
        assert done.exit_code == 2 and not (tmp_path / "out").exists()
        assert done.stderr.count("\n") == 1
        return str(done.stderr)

    return run


def test_without_root(refused, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "need root" in refused("--quick")


def test_without_the_tools(refused, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda tool: None)
    assert "apt-get install iproute2" in refused("--quick")


def test_inline_without_its_binding(refused, monkeypatch):
    monkeypatch.setattr(modes, "find_spec", lambda name: None)
    assert "ids-appliance[gateway]" in refused("--modes", "inline")


def test_built_literally_without_scikit_learn(refused, monkeypatch):
    monkeypatch.setattr(modes, "find_spec", lambda name: None)
    said = refused("--modes", "tapped,paper-offloaded")
    assert "sklearn is not installed" in said and "ids-appliance[train]" in said


def test_against_what_is_not_installed(refused, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda tool: None)
    said = refused("--against", "suricata")
    assert "not installed: suricata" in said and "apt-get install suricata" in said


def test_without_control_groups(refused, monkeypatch, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("as root: it is refused before, without")
    monkeypatch.setattr("ids_appliance.bench.groups.ROOT", tmp_path)
    assert "control groups" in refused("--cgroup", "1core-1gb")


@pytest.mark.parametrize(
    "options",
    [
        ("--modes", "fast"),
        ("--mixes", "noise"),
        ("--fixed", "0"),
        ("--fixed", "many"),
        ("--step", "0"),
        ("--live",),
        ("--model", "nowhere"),
    ],
)
def test_what_is_not_understood(options, tmp_path):
    done = CliRunner().invoke(main, ["bench", "--out", str(tmp_path / "out"), *options])
    assert done.exit_code == 2 and done.stderr
    assert not (tmp_path / "out").exists()
