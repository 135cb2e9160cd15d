"""What the command tests share: the demo's capture, and the command as people run it."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import ids_appliance
from ids_appliance.classify.bundle import save_bundle
from ids_appliance.cli import main
from tests.cli.asked import asked


@pytest.fixture(scope="session")
def capture():
    return Path(ids_appliance.__file__).parent / "demo" / "lan.pcap.gz"


@pytest.fixture(scope="session")
def model(small_bundle, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small"
    save_bundle(small_bundle, path)
    return path


@pytest.fixture
def ids():
    """Run the command in this process, which saves half a second a call; returns what came of it.

    An exception that the command does not turn into a line is the test's.
    """

    def run(*arguments):
        done = CliRunner().invoke(
            main, list(map(str, arguments)), prog_name="ids-appliance", catch_exceptions=False
        )
        return subprocess.CompletedProcess(
            arguments, done.exit_code, done.stdout_bytes, done.stderr_bytes
        )

    return run


@pytest.fixture
def started():
    """Run the command as people do, in a process of its own; returns the finished process."""

    def run(*arguments, stdin=None, **options):
        command = [sys.executable, "-m", "ids_appliance", *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, input=stdin, timeout=300, check=False, **options
        )

    return run


@pytest.fixture
def refused(ids):
    """Run the command and insist on one clear line and exit code 2; returns the line."""

    def run(*arguments):
        done = ids(*arguments)
        assert done.returncode == 2, (done.returncode, done.stderr)
        text = done.stderr.decode()
        assert "Traceback" not in text
        lines = [line for line in text.splitlines() if line.startswith("Error: ")]
        assert len(lines) == 1, text
        return lines[0]

    return run


@pytest.fixture
def live(tmp_path):
    """A running gateway and the command line that asks it."""
    with asked(tmp_path / "run") as live:
        yield live
