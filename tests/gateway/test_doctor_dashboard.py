"""What `doctor` says about dashboards: their command lines, and who may read which token."""

from pathlib import Path

import pytest

from ids_appliance.config import Config
from ids_appliance.dashboard.serve import server_command
from ids_appliance.dashboard.settings import Settings
from ids_appliance.gateway.doctor_dashboard import dashboard

pytest.importorskip("streamlit", reason="needs ids-appliance[dashboard]")


def running(proc: Path, pid: int, settings: Settings, host: str = "127.0.0.1") -> None:
    words = server_command(settings, host=host)
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "cmdline").write_bytes("\0".join([*words, ""]).encode())


def told(config: Config, proc: Path) -> list[tuple[str, str]]:
    # Who runs it is the owner of its directory in /proc: here whoever runs the tests.
    found = dashboard(config, proc)
    return [(one.state, one.text) for one in found if "runs as root" not in one.text]


def test_where_it_listens(tmp_path: Path) -> None:
    proc, run_dir = tmp_path / "proc", tmp_path / "run"
    own = Settings(run_dir=str(run_dir))
    running(proc, 100, own)
    running(proc, 101, own, host="0.0.0.0")
    running(proc, 102, Settings(run_dir="/run/another"), host="0.0.0.0")
    (proc / "self").mkdir()
    (proc / "103").mkdir()
    (proc / "103" / "cmdline").write_bytes(b"vi\0/src/ids_appliance/dashboard/page.py\0")
    first, second = told(Config(interfaces=(), run_dir=str(run_dir)), proc)
    assert first == ("ok", "pid 100 listens at 127.0.0.1:8501, for this machine only")
    assert second[0] == "warn" and "everybody who reaches it" in second[1]


def test_who_reads_a_token(tmp_path: Path) -> None:
    proc, run_dir, file = tmp_path / "proc", tmp_path / "run", tmp_path / "own"
    run_dir.mkdir()
    config = Config(interfaces=(), run_dir=str(run_dir))
    proc.mkdir()
    (run_dir / "token").touch(0o600)
    assert told(config, proc) == []
    (run_dir / "token").chmod(0o640)
    ((state, text),) = told(config, proc)
    assert state == "fail" and "the gateway's token can be read by others" in text
    (run_dir / "token").unlink()
    running(proc, 100, Settings(run_dir=str(run_dir), token_file=str(file)))
    assert [state for state, _ in told(config, proc)] == ["ok", "fail"]
    file.touch(0o600)
    assert [state for state, _ in told(config, proc)] == ["ok"]
    file.chmod(0o644)
    assert "chmod" in list(dashboard(config, proc))[-1].remedy
