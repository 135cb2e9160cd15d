"""Words of a command in, what it printed out; a failure becomes one line that names it."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from ids_appliance.errors import MonitorError

PACKAGES: Final = {
    "docker": "docker.io",
    "ethtool": "ethtool",
    "ip": "iproute2",
    "ovs-appctl": "openvswitch-switch",
    "ovs-ofctl": "openvswitch-switch",
    "ovs-vsctl": "openvswitch-switch",
    "podman": "podman",
}
"""Tool -> Debian package that holds it."""
TIMEOUT_S: Final = 60.0


def run(
    *words: str, text: str = "", env: Mapping[str, str] | None = None, check: bool = True
) -> str:
    """Run a command and return what it printed; `env` comes on top of our own environment.

    Raises MonitorError: not installed, took too long, or (with `check`) did not succeed.
    """
    try:
        done = subprocess.run(
            words,
            input=text,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        raise not_installed(words[0]) from None
    except subprocess.TimeoutExpired:
        raise MonitorError(f"{words[0]} did not end within {TIMEOUT_S:.0f} s") from None
    if check and done.returncode != 0:
        said = " ".join((done.stderr.strip() or done.stdout.strip()).split())
        raise MonitorError(f"{' '.join(words)}: {said or f'exit code {done.returncode}'}")
    return done.stdout


def json(*words: str) -> Any:
    """Run a command that prints JSON and return it; nothing printed is an empty list."""
    printed = run(*words).strip()
    try:
        return msgspec.json.decode(printed) if printed else []
    except msgspec.DecodeError as error:
        raise MonitorError(f"{' '.join(words)} printed no JSON: {error}") from error


def batch(lines: Iterable[str], *, namespace: str = "") -> None:
    """Run lines of `ip` in one process, until the first that fails. Raises MonitorError."""
    text = "".join(f"{line}\n" for line in lines)
    where = ("-n", namespace) if namespace else ()
    if text:
        run("ip", *where, "-batch", "-", text=text)


def not_installed(tool: str) -> MonitorError:
    """Return the error that says how to get a tool."""
    package = PACKAGES.get(tool, tool)
    return MonitorError(f"{tool} is not installed: apt-get install {package}")


def require(*tools: str) -> None:
    """Raise MonitorError where we are not root or a tool is missing."""
    if os.geteuid() != 0:
        raise MonitorError("the monitor makes interfaces and namespaces: run it again as root")
    for tool in tools:
        if shutil.which(tool) is None:
            raise not_installed(tool)
