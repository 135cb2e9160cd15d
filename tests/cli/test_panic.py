"""The `panic` command: with a gateway that lives, one that is stuck, and none at all."""

import json
import os
import sys
import types

import pytest

from ids_appliance.cli import panic
from ids_appliance.config import OpenFlow
from ids_appliance.enforce.openflow_record import remember
from ids_appliance.errors import EnforceError
from ids_appliance.gateway.sockets import leave_panic_flag, panicked
from tests.cli.asked import asked, call, one_line
from tests.gateway.running import as_user, reachable


@pytest.fixture(autouse=True)
def tables(monkeypatch):
    """Our tables in the kernel, as the remover finds them."""
    there = ["netdev ids", "inet ids"]

    def remove_all():
        gone = list(there)
        there.clear()
        return gone

    module = types.SimpleNamespace(remove_all=remove_all, running=lambda: 0)
    monkeypatch.setitem(sys.modules, panic.REMOVER, module)
    return there


def test_a_running_gateway_does_it_and_it_is_made_sure(live, tables):
    assert live.ordered("panic") == ("panic",)
    assert tables == []
    assert panicked(live.run_dir)


def test_it_says_how_to_go_on(live):
    text = " ".join(live("panic").stdout.split())
    assert "everything of ours is out of the kernel" in text
    assert "Removed from the kernel: netdev ids, inet ids" in text
    assert "until you say `ids-appliance enforce on`" in text


def test_a_dead_gateway(tmp_path, tables):
    run_dir = tmp_path / "run"
    done = call("panic", "--run-dir", str(run_dir))
    assert done.exit_code == 0, done.output
    assert "no gateway is running" in done.stdout and "netdev ids" in done.stdout
    assert tables == [] and panicked(run_dir)
    again = call("panic", "--run-dir", str(run_dir))
    assert again.exit_code == 0 and "Nothing of ours was in the kernel" in again.stdout


def test_a_gateway_that_is_stuck_finds_the_flag(tmp_path, tables, monkeypatch):
    monkeypatch.setattr(panic, "DEADLINE_S", 0.3)
    with asked(tmp_path / "run") as live:
        live.gateway.stick()
        done = live("panic")
        assert done.exit_code == 0, done.output
        assert "does not answer" in " ".join(done.stdout.split())
        assert tables == [] and panicked(live.run_dir)


def test_json(tmp_path):
    done = call("panic", "--run-dir", str(tmp_path / "run"), "--format", "json")
    account = json.loads(done.stdout)
    assert account["answered"] is False and account["removed"] == ["netdev ids", "inet ids"]
    assert account["flag"] == str(tmp_path / "run" / "panic")


def test_a_broken_configuration_is_no_reason_not_to(tmp_path, tables, monkeypatch):
    config = tmp_path / "gateway.toml"
    config.write_text("run_dir = [")
    monkeypatch.setattr(panic, "RUN_DIR", tmp_path / "run")
    done = call("panic", "--config", str(config))
    assert done.exit_code == 0 and "is not TOML" in done.stderr
    assert tables == [] and panicked(tmp_path / "run")


def test_a_flag_that_cannot_be_left_is_told(tmp_path, tables):
    (tmp_path / "run").write_text("a file")
    done = call("panic", "--run-dir", str(tmp_path / "run" / "below"))
    assert done.exit_code == 0 and "will enforce again" in " ".join(done.stderr.split())
    assert tables == []


def test_tables_that_cannot_be_removed_are_an_error(live, tmp_path, monkeypatch):
    def refuse():
        raise EnforceError("nft: Operation not permitted")

    monkeypatch.setattr(sys.modules[panic.REMOVER], "remove_all", refuse)
    assert "not permitted" in one_line(call("panic", "--run-dir", str(tmp_path / "none")))
    done = live("panic")  # the gateway itself did it
    assert done.exit_code == 0 and "to make sure" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_an_ordinary_user_is_told_to_use_sudo_and_nothing_happens(tmp_path_factory):
    run_dir = reachable(tmp_path_factory.mktemp("run"))
    code = "import sys; from ids_appliance.cli import main; main(sys.argv[1:])"
    with asked(run_dir) as live:
        done = as_user(65534, code, "panic", "--run-dir", run_dir)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "Error: panic needs root, nothing was done: try it with sudo\n"
        leave_panic_flag(run_dir)  # left by an earlier one: still no right to order
        done = as_user(65534, code, "panic", "--run-dir", run_dir)
        assert done.returncode == 2 and "sudo" in done.stderr
        assert live.actions.calls == []


def test_a_switch_that_does_not_answer_is_told(tmp_path, tables):
    run_dir = tmp_path / "run"
    settings = OpenFlow(bridge="s1", ovs_run_dir=str(tmp_path))
    remember(run_dir, settings)
    done = call("panic", "--run-dir", str(run_dir))
    assert "entries of ours may stand on a switch" in one_line(done)
    assert tables == [] and panicked(run_dir)  # all else was done first


def test_a_gateway_that_answers_has_rid_the_switch_itself(live, tables):
    remember(live.run_dir, OpenFlow(bridge="s1", ovs_run_dir=str(live.run_dir)))
    done = live("panic")
    assert done.exit_code == 0 and "to make sure" in done.stderr


def test_a_gateway_with_another_run_directory_is_named(tmp_path, tables, monkeypatch):
    """It would put back within seconds what is removed, while we say that nothing is enforced."""
    monkeypatch.setattr(sys.modules[panic.REMOVER], "running", lambda: 4711)
    done = call("panic", "--run-dir", str(tmp_path / "none"))
    assert tables == []  # all the same, and at once
    assert done.exit_code == 2 and "kill 4711" in done.stderr and "--run-dir" in done.stderr
