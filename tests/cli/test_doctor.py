"""`doctor` says what is wrong, by exit code, as a table and as JSON."""

import json

import pytest
from click.testing import CliRunner

from ids_appliance.cli import doctor as command_module
from ids_appliance.cli import main
from ids_appliance.gateway import machine
from ids_appliance.gateway.machine import Finding


@pytest.fixture
def healthy(monkeypatch):
    found = [Finding("kernel", "ok", "Linux"), Finding("clock", "warn", "late\x1b[1m", "set it")]
    monkeypatch.setattr(machine, "examine", lambda wall_s: iter(found))
    monkeypatch.setattr(command_module, "DEFAULT_PATH", "/nonexistent/gateway.toml")


def run(*options: str):
    return CliRunner().invoke(main, ["doctor", *options])


def test_warnings_do_not_fail(healthy) -> None:
    result = run()
    assert result.exit_code == 0, result.output
    assert "warn  clock" in result.output and "-> set it" in result.output
    assert "\x1b" not in result.output and result.output.endswith("1 ok, 1 warn\n")


def test_a_bad_configuration_fails_and_the_machine_is_told_all_the_same(healthy, tmp_path) -> None:
    path = tmp_path / "g.toml"
    path.write_text("interface = 1\n")
    result = run("--config", str(path), "--format", "json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["ok"] is False and told["findings"][0]["topic"] == "kernel"
    assert told["findings"][-1]["state"] == "fail"
    assert "did you mean 'interfaces'" in told["findings"][-1]["text"]


def test_a_configuration_is_looked_at(healthy, tmp_path) -> None:
    path = tmp_path / "g.toml"
    path.write_text(
        f'interfaces = ["lo"]\nmodel = "none"\nstate_dir = "{tmp_path}"\nrun_dir = "{tmp_path}"\n'
    )
    result = run("--config", str(path))
    assert result.exit_code == 1 and "fail  model" in result.output
    assert "ok  configuration" in result.output
    assert max(map(len, result.output.splitlines())) <= 100


def test_the_real_machine(monkeypatch) -> None:
    monkeypatch.setattr(command_module, "DEFAULT_PATH", "/nonexistent/gateway.toml")
    result = run("--format", "json")
    told = json.loads(result.stdout)
    assert {"kernel", "rights", "nftables", "capture", "clock", "memory", "tools"} <= {
        one["topic"] for one in told["findings"]
    }
    assert result.exit_code == (0 if told["ok"] else 1)
