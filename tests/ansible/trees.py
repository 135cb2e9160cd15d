"""A suite's name in, a Debian tree out: made with debootstrap once, kept under build/.

The mirror is the one that this machine's own apt uses. What the roles install lies in the tree's
package cache, not installed: the hosts have no way to a network.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
TREES = ROOT / "build" / "ansible-trees"
ROLES = ROOT / "ansible" / "roles"
BASE = (
    *("systemd", "systemd-sysv", "dbus", "libpam-systemd", "openssh-server"),
    *("python3", "python3-apt", "iproute2", "iputils-ping"),
)
"""What a host has before the first run: it boots, and answers to Ansible."""
QUIET = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}


def tree(suite: str, *, foreign: str = "") -> Path:
    """Return the tree of a suite, made where it is not there yet or the roles want other packages.

    foreign: another machine's architecture, as Debian names it. Such a tree is no host: it does not
    boot, and has installed what the package is built and run with.
    Raises subprocess.CalledProcessError."""
    needed = [*packages("appliance"), *packages("appliance", "build_")]
    inline = [*packages("appliance", "inline_"), *packages("appliance", "inline_build_")]
    further = [*needed, *inline, *packages("monitor")]
    base, wanted = (needed, []) if foreign else ([*BASE], further)
    name = f"{suite}-{foreign}" if foreign else suite
    stamp = hashlib.sha256(" ".join([*base, *wanted]).encode()).hexdigest()
    made = TREES / name
    kept = TREES / f"{name}.stamp"
    if kept.exists() and kept.read_text() == stamp:
        return made
    shutil.rmtree(made, ignore_errors=True)
    TREES.mkdir(parents=True, exist_ok=True)
    machine = [f"--arch={foreign}"] if foreign else []
    quietly("debootstrap", "--variant=minbase", *machine, suite, str(made), mirror())
    shutil.copyfile("/etc/resolv.conf", made / "etc/resolv.conf")
    with mounted(made), no_services(made):
        chroot(made, "apt-get", "update")
        install = ("apt-get", "install", "--yes", "--no-install-recommends")
        chroot(made, *install, *base)
        if wanted:
            chroot(made, *install, "--download-only", *wanted)
    (made / "etc/resolv.conf").write_text("# nobody to ask\n")
    kept.write_text(stamp)
    return made


def packages(role: str, kind: str = "") -> list[str]:
    """Return what a role installs of the distribution, from its defaults."""
    path = ROLES / role / "defaults" / "main.yml"
    return list(yaml.safe_load(path.read_text(encoding="utf-8"))[f"{role}_{kind}packages"])


def mirror() -> str:
    """Return the first mirror of this machine's own apt."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.split()[0]


def quietly(*words: str) -> None:
    """Run a command that has to succeed; what it says is shown only if it does not."""
    done = subprocess.run(words, capture_output=True, text=True, env=QUIET, check=False)
    if done.returncode:
        print(done.stdout[-2000:], done.stderr[-2000:])
        done.check_returncode()


def chroot(where: Path, *words: str) -> None:
    quietly("chroot", str(where), *words)


@contextlib.contextmanager
def mounted(where: Path) -> Iterator[None]:
    """Some packages look at /proc while they are set up."""
    quietly("mount", "--bind", "/proc", str(where / "proc"))
    try:
        yield
    finally:
        # Detached even while somebody on this machine walks through all mounts.
        quietly("umount", "--lazy", str(where / "proc"))


@contextlib.contextmanager
def no_services(where: Path) -> Iterator[None]:
    """Nothing is started in the tree (policy-rc.d(8)): it is not booted."""
    policy = where / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()
