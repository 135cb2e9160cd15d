"""The `dashboard` command: what it starts, and what it refuses in one line."""

import json
import os

import pytest

from ids_appliance.cli import dashboard
from ids_appliance.dashboard import serve
from tests.cli.asked import call, one_line


@pytest.fixture
def started(monkeypatch):
    """The words of the server that the command would have become."""
    words = []
    monkeypatch.setattr(dashboard.os, "execv", lambda _path, given: words.extend(given))
    monkeypatch.setattr(serve.importlib.util, "find_spec", lambda _name: True)
    return words


def told(words):
    return json.loads(words[words.index("--") + 1])


def test_it_listens_on_this_machine_and_tells_nobody(live, started):
    done = live("dashboard")
    assert done.exit_code == 0, done.output
    assert "--server.address=127.0.0.1" in started and "--server.port=8501" in started
    assert "--browser.gatherUsageStats=false" in started
    assert str(live.run_dir / "token") in done.stderr.replace("\n", "")


def test_no_secret_is_among_the_words(live, started):
    live("dashboard")
    token = (live.run_dir / "token").read_text()
    assert started and token not in " ".join(started)


def test_from_elsewhere_only_when_told(live, started):
    done = live("dashboard", "--host", "::", "--port", "8600")
    assert "--server.address=::" in started and "http://[::]:8600" in done.stderr
    assert "everybody who reaches" in done.stderr


def test_a_token_of_its_own_is_written_for_its_owner_only(live, started, tmp_path):
    path = tmp_path / "token"
    assert live("dashboard", "--token-file", str(path)).exit_code == 0
    assert path.stat().st_mode & 0o777 == 0o600 and path.stat().st_uid == os.geteuid()
    assert told(started)["token_file"] == str(path)
    assert path.read_text().strip() not in " ".join(started)
    path.chmod(0o644)
    assert "chmod 600" in one_line(live("dashboard", "--token-file", str(path)))


def test_the_model_is_where_the_configuration_says(live, started, tmp_path):
    config = tmp_path / "gateway.toml"
    config.write_text(f'run_dir = "{live.run_dir}"\nmodel = "models/mine"\n')
    assert call("dashboard", "--config", str(config)).exit_code == 0
    assert told(started)["model"] == str(tmp_path / "models" / "mine")


def test_it_waits_for_a_gateway_that_is_not_there_yet(tmp_path, started):
    done = call("dashboard", "--run-dir", str(tmp_path))
    assert done.exit_code == 0 and "the page will wait" in done.stderr and started


def test_without_streamlit(live, monkeypatch):
    monkeypatch.setattr(serve.importlib.util, "find_spec", lambda _name: None)
    assert "ids-appliance[dashboard]" in one_line(live("dashboard"))
