"""The monitor's container for real: built, confined, ended; for where an engine runs.

Debian's docker.io or podman, with its service running; the base image is made by debootstrap, or
named in IDS_BASE_IMAGE.
"""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from ids_appliance.cli import main
from ids_appliance.monitor.container import ENGINES, LABEL
from tests.monitor.capturing import Capturing, capturing, ended
from tests.monitor.mirrored import CAPTURE
from tests.net.namespaces import require, wait_for

pytestmark = [pytest.mark.net, pytest.mark.nightly]

IMAGE = "ids-appliance-monitor-under-test"


def engine() -> str:
    """Return an engine that answers; skip where there is none."""
    require()
    for name in ENGINES:
        if shutil.which(name) and asked(name, "info").returncode == 0:
            return name
    pytest.skip("no container engine answers: apt-get install docker.io, start dockerd")


def asked(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=900, check=False)


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An engine with the image built from the definition that ships."""
    name = engine()
    base, own = os.environ.get("IDS_BASE_IMAGE", ""), ""
    if not base:
        if shutil.which("debootstrap") is None:
            pytest.skip("no base image: set IDS_BASE_IMAGE, or apt-get install debootstrap")
        tree = tmp_path_factory.mktemp("tree")
        include = "--include=tcpdump,libcap2-bin"
        made = asked("debootstrap", "--variant=minbase", include, "stable", str(tree))
        assert made.returncode == 0, made.stdout[-500:]
        base = own = f"{IMAGE}-base"
        with subprocess.Popen(["tar", "-C", tree, "-c", "."], stdout=subprocess.PIPE) as packed:
            subprocess.run([name, "import", "-", base], stdin=packed.stdout, check=True)
    built = CliRunner().invoke(
        main, ["monitor", "image", "--engine", name, "--image", IMAGE, "--base", base]
    )
    assert built.exit_code == 0, built.output
    yield name
    for image in (IMAGE, own):
        if image:
            asked(name, "rmi", "--force", image)


def words(chosen: str, *more: str) -> list[str]:
    return [*CAPTURE, "--engine", chosen, "--image", IMAGE, "--interface=lo", *more]


def running(chosen: str) -> list[str]:
    return asked(chosen, "ps", "-aq", f"--filter=label={LABEL}").stdout.split()


@pytest.fixture
def speak() -> Iterator[tuple[str, "Speak"]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind(("127.0.0.1", 0))
        yield f"--filter=udp port {own.getsockname()[1]}", Speak(own)


class Speak:
    """Sends datagrams to itself."""

    def __init__(self, own: socket.socket) -> None:
        self._own = own

    def __call__(self, n: int) -> None:
        for _ in range(n):
            self._own.sendto(b"x", self._own.getsockname())


def kept(one: Capturing) -> int:
    """Return how many frames a capture says it has kept once it has ended."""
    return int(one.end(0).split(": ")[1].split()[0])


def test_count_and_whose_file_it_is(chosen: str, speak: tuple[str, Speak], tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    env = {**os.environ, "SUDO_UID": "1234", "SUDO_GID": "2345"}
    with capturing(words(chosen, speak[0], "--count=20", "--write", str(path)), env) as one:
        assert f"by {chosen}" in one.said[0]
        speak[1](30)
        assert kept(one) == 20
    assert path.stat().st_uid == 1234 and path.stat().st_size == 24 + 20 * (16 + 43)
    wait_for(lambda: not running(chosen), seconds=30)


def test_it_has_one_capability_and_nothing_to_write_to(chosen: str, tmp_path: Path) -> None:
    with capturing(words(chosen, "--write", str(tmp_path / "a.pcap"))) as one:
        (container,) = running(chosen)
        found = msgspec.json.decode(asked(chosen, "inspect", container).stdout)[0]
        status = Path(f"/proc/{found['State']['Pid']}/status").read_text()
        one.end()
    facts = dict(line.split(":\t", 1) for line in status.splitlines())
    assert facts["Uid"].split() == ["65534"] * 4
    raw = f"{1 << 13:016x}"  # CAP_NET_RAW
    assert [facts[name].strip() for name in ("CapPrm", "CapEff", "CapBnd")] == [raw] * 3
    assert found["HostConfig"]["ReadonlyRootfs"] and not found["Mounts"]
    assert not found["HostConfig"]["Privileged"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(
    chosen: str, speak: tuple[str, Speak], tmp_path: Path, number: int
) -> None:
    path = tmp_path / "a.pcap"
    with capturing(words(chosen, speak[0], "--write", str(path))) as one:
        speak[1](500)
        assert "500 frames · kernel dropped 0" in one.end(number)
    wait_for(lambda: not running(chosen), seconds=30)


def test_killed_it_takes_the_container_along(chosen: str, tmp_path: Path) -> None:
    with capturing(words(chosen, "--write", str(tmp_path / "a.pcap"))) as one:
        child = one.tcpdump
        one.process.kill()
        one.process.wait()
        ended(child)
    wait_for(lambda: not running(chosen), seconds=60)


def test_what_a_killed_one_could_not_end_the_next_one_removes(chosen: str, tmp_path: Path) -> None:
    """The engine's client is killed as well, so that nobody could tell the container to end."""
    path = tmp_path / "a.pcap"
    with capturing(words(chosen, "--write", str(path))) as one:
        os.kill(one.tcpdump, signal.SIGKILL)
        one.process.kill()
        one.process.wait()
    left = running(chosen)
    assert left
    done = CliRunner().invoke(main, words(chosen, "--for=1s", "--write", str(path))[3:])
    assert done.exit_code == 0, done.output
    wait_for(lambda: not set(left) & set(running(chosen)), seconds=30)
    assert [p.name for p in tmp_path.iterdir()] == ["a.pcap"]


def test_bad_input_is_one_line(chosen: str, tmp_path: Path) -> None:
    def failed(*more: str) -> str:
        done = CliRunner().invoke(main, words(chosen, "--write", str(tmp_path / "a"), *more)[3:])
        assert done.exit_code == 2 and done.stderr.count("\n") == 1, done.output
        return done.stderr

    assert "can't parse filter expression: syntax error" in failed("--filter=foo bar")
    assert "No such device" in failed("--interface=nosuch0")
    assert "monitor image" in failed("--image=nosuch")
