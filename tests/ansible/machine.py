"""A tree and a namespace in, a booted system out; nothing of it stays.

The tree is the lower layer of an overlay, so a host costs no copy and cannot change it.
"""

import contextlib
import os
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

BOOT_S = 120.0
STOP_S = 30.0


class Machine:
    """One booted system; use as a context manager."""

    def __init__(
        self, name: str, tree: Path, *, namespace: str, scratch: Path, device: str = ""
    ) -> None:
        self.name = name
        self._device = [f"--bind={device}"] if device else []
        self._tree = tree
        self.namespace = namespace
        self._place = scratch / name
        self.root = self._place / "root"
        self._boot: subprocess.Popen[bytes] | None = None
        self._init = ""

    def __enter__(self) -> Self:
        upper, work = self._place / "upper", self._place / "work"
        for path in (self.root, upper, work):
            path.mkdir(parents=True)
        layers = f"lowerdir={self._tree},upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", self.root], check=True)
        try:
            self._own()
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._boot is not None:
            if self._init:
                # SIGRTMIN+4 lets systemd power off in good order (systemd(1)).
                subprocess.run(["kill", "-38", self._init], check=False)
            try:
                self._boot.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._boot.kill()
                self._boot.wait()
        subprocess.run(["umount", "--recursive", self.root], check=False)
        shutil.rmtree(self._place, ignore_errors=True)

    def _own(self) -> None:
        """Give it what no other host has."""
        (self.root / "etc/hostname").write_text(f"{self.name}\n")
        (self.root / "etc/machine-id").write_text("")
        (self.root / "etc/hosts").write_text(f"127.0.0.1 localhost {self.name}\n")
        for kind in ("rsa", "ecdsa", "ed25519"):
            for path in (self.root / "etc/ssh").glob(f"ssh_host_{kind}_key*"):
                path.unlink()
        key = self.root / "etc/ssh/ssh_host_ed25519_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)

    def _start(self) -> None:
        with contextlib.ExitStack() as stack:
            log = stack.enter_context((self._place / "console").open("wb"))
            told = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            told.bind(str(self._place / "told"))
            self._boot = subprocess.Popen(
                ["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit"]
                + ["--capability=CAP_NET_ADMIN", f"--machine=ids-{self.name}"]
                + [f"--network-namespace-path=/run/netns/{self.namespace}", "--console=pipe"]
                + [f"--directory={self.root}", "--resolv-conf=off", "--timezone=off"]
                + ["--notify-ready=yes", *self._device],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={
                    **os.environ,
                    # Its own network's settings are a host's to change, this machine's are not.
                    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
                    "NOTIFY_SOCKET": str(self._place / "told"),
                },
            )
            booted = self._booted(told)
        if not booted or self.run("systemctl", "is-active", "ssh").returncode:
            text = (self._place / "console").read_text("utf-8", "replace")
            raise RuntimeError(f"{self.name} did not boot: {text[-2000:]}")

    def _booted(self, told: socket.socket) -> bool:
        """Wait until its systemd says that everything is started (sd_notify(3)), or it is gone."""
        assert self._boot is not None
        gone = os.pidfd_open(self._boot.pid)
        try:
            end = time.monotonic() + BOOT_S
            while (left := end - time.monotonic()) > 0:
                ready, _, _ = select.select([told, gone], [], [], left)
                if told not in ready:
                    break
                lines = told.recv(4096).decode().splitlines()
                said = dict(line.partition("=")[::2] for line in lines)
                self._init = said.get("X_NSPAWN_LEADER_PID", self._init)
                if said.get("READY") == "1":
                    return bool(self._init)
        finally:
            os.close(gone)
        return False

    def run(self, *words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        inside = ["nsenter", "--target", self._init, "--all", "--", *words]
        return subprocess.run(inside, input=text, capture_output=True, text=True, check=False)

    def say(self, *words: str) -> str:
        """Run a command inside that has to succeed; return what it printed."""
        done = self.run(*words)
        assert done.returncode == 0, f"{self.name}: {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout


@contextlib.contextmanager
def machines(*all_of_them: Machine) -> Iterator[dict[str, Machine]]:
    """Boot several, one after the other."""
    with contextlib.ExitStack() as stack:
        yield {one.name: stack.enter_context(one) for one in all_of_them}
