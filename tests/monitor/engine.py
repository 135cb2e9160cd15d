"""A Docker Engine of its own in an enclosure, with an image of nothing but `sleep`."""

import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.monitor.enclosure import Enclosure

START_S = 60
IMAGE = "sleeper"


def require() -> None:
    """Skip where there is no Docker Engine."""
    if shutil.which("dockerd") is None or shutil.which("docker") is None:
        pytest.skip("no Docker Engine: apt-get install docker.io")


@contextmanager
def engine(inside: Enclosure) -> Iterator[None]:
    """Run it; `docker` in the enclosure finds it at its usual place."""
    place = inside.directory / "docker"
    place.mkdir()
    config = place / "daemon.json"
    config.write_text(json.dumps({"bridge": "none", "iptables": False, "ip6tables": False}))
    words = ["dockerd", "--config-file", str(config), "--data-root", str(place / "data")]
    words += ["--exec-root", "/run/docker-exec", "--pidfile", "/run/docker.pid"]
    words += ["--host", "unix:///run/docker.sock", "--log-level", "warn"]
    log = place / "log"
    with log.open("wb") as out:
        daemon = subprocess.Popen(
            inside.switch.words(*words),
            stdout=out,
            stderr=out,
            env={**os.environ, "DOCKER_RAMDISK": "true"},  # no pivot_root in here
        )
    try:
        end = time.monotonic() + START_S
        while inside.done("docker", "version").returncode != 0:
            assert daemon.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        image = place / "image.tar"
        image.write_bytes(_image())
        inside.run("docker", "import", str(image), IMAGE)
        yield
    finally:
        names = inside.done("docker", "ps", "--all", "--quiet").stdout.split()
        inside.done("docker", "rm", "--force", *names)
        daemon.terminate()
        daemon.wait()


def start(inside: Enclosure, *names: str) -> None:
    """Start containers without a network, the published way."""
    for name in names:
        words = ("docker", "run", "--detach", "--network", "none", "--name", name, IMAGE)
        inside.run(*words, "/bin/sleep", "1000000")


def _image() -> bytes:
    """Return an archive with `sleep` and the libraries it needs."""
    sleep = shutil.which("sleep") or "/bin/sleep"
    listed = subprocess.run(["ldd", sleep], capture_output=True, text=True, check=True).stdout
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for directory in ("dev", "proc", "sys", "etc"):
            info = tarfile.TarInfo(directory)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(info)
        archive.add(Path(sleep).resolve(), "bin/sleep")
        for library in set(re.findall(r"(/\S+)", listed)):
            archive.add(Path(library).resolve(), library.lstrip("/"))
    return data.getvalue()
