"""A configuration in, findings out about the dashboards of its gateway that run on this machine.

They are found by their command lines, which everybody may read: where they listen, which token they
take. Of a token no more than who may read its file is looked at.
"""

import ipaddress
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from ids_appliance.config import Config
from ids_appliance.gateway.machine import Finding
from ids_appliance.gateway.sockets import TOKEN

PAGE: Final = "ids_appliance/dashboard/page.py"
_OPTIONS: Final = {"--server.address": "address", "--server.port": "port"}


class _Settings(msgspec.Struct, frozen=True):
    """As much of the page's settings as is of interest here."""

    run_dir: str
    token_file: str = ""


class _Running(msgspec.Struct, frozen=True):
    pid: int
    root: bool
    address: str
    port: str
    settings: _Settings


def dashboard(config: Config, proc: Path = Path("/proc")) -> Iterator[Finding]:
    """Yield what there is to say of the gateway's token and of dashboards; nothing without."""
    own = Path(config.run_dir).absolute()
    yield from _token(own / TOKEN, "the gateway's token")
    for one in _running(proc):
        if Path(one.settings.run_dir) != own:
            continue
        at = f"[{one.address}]" if ":" in one.address else one.address
        text = f"pid {one.pid} listens at {at}:{one.port}"
        if _local(one.address):
            yield Finding("dashboard", "ok", f"{text}, for this machine only")
        else:
            line = f"{text}: everybody who reaches it sees the page, unencrypted"
            remedy = f"start it without --host; ssh -L {one.port}:127.0.0.1:{one.port} GATEWAY"
            yield Finding("dashboard", "warn", line, remedy)
        if one.settings.token_file:
            path = Path(one.settings.token_file)
            yield from _token(path, "its token", missing="fail")
        elif one.root:
            line = f"pid {one.pid} runs as root, and needs not"
            yield Finding("dashboard", "warn", line, "run it as a member of `group`")


def _token(path: Path, what: str, *, missing: str = "") -> Iterator[Finding]:
    """Look who may read a token's file. missing: state where it is not there, else nothing."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        if missing:
            yield Finding("dashboard", "fail", f"{path}: {what} is not there", "start it again")
        return
    except OSError as error:
        yield Finding("dashboard", "unknown", f"{path}: {(error.strerror or '').lower()}")
        return
    if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077:
        line = f"{path}: {what} can be read by others"
        yield Finding("dashboard", "fail", line, f"chmod 600 {path}, and start its owner again")


def _running(proc: Path) -> Iterator[_Running]:
    for entry in sorted(proc.iterdir(), key=lambda path: path.name):
        if not entry.name.isdigit():
            continue
        try:
            raw = (entry / "cmdline").read_bytes()
            root = entry.stat().st_uid == 0
        except OSError:
            continue  # it has ended meanwhile, or is hidden from us
        words = raw.decode("utf-8", "replace").split("\0")
        if not any(word.endswith(PAGE) for word in words) or "--" not in words:
            continue
        said = {
            _OPTIONS[name]: value
            for name, _, value in (word.partition("=") for word in words)
            if name in _OPTIONS
        }
        try:
            settings = msgspec.json.decode(words[words.index("--") + 1], type=_Settings)
            yield _Running(int(entry.name), root, said["address"], said["port"], settings)
        except (ValueError, IndexError, KeyError):
            continue  # not as we start it


def _local(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
