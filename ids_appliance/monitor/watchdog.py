"""A moved uplink and a time in, the uplink as it was before out, unless somebody confirms.

It runs in a process of its own, which neither a lost session nor a killed command takes along; the
way of netplan-try(8).
"""

import contextlib
import signal
import socket
import subprocess
import sys
import syslog
import time
from typing import Final

import msgspec

from ids_appliance.errors import MonitorError
from ids_appliance.monitor import uplink
from ids_appliance.monitor.record import Records
from ids_appliance.monitor.switch import Switch

_START_S: Final = 30.0
_READY: Final = b"ready"


def start(records: Records, token: str, seconds: int) -> None:
    """Start it, and return once it watches. Raises MonitorError: then nothing may be moved."""
    words = [sys.executable, "-m", "ids_appliance", "monitor", "watchdog"]
    words += ["--run-dir", str(records.directory), "--name", records.name]
    words += ["--token", token, "--seconds", str(seconds)]
    nothing = subprocess.DEVNULL
    with contextlib.ExitStack() as stack:
        mine, theirs = socket.socketpair()
        stack.enter_context(mine)
        with theirs:
            subprocess.Popen(
                [*words, "--ready", str(theirs.fileno())],
                stdin=nothing,
                stdout=nothing,
                stderr=nothing,
                cwd="/",
                start_new_session=True,
                pass_fds=(theirs.fileno(),),
            )
        mine.settimeout(_START_S)
        try:
            said = mine.recv(16)
        except TimeoutError:
            said = b""
    if said != _READY:
        raise MonitorError(
            "the watchdog that would undo the move of the uplink does not start: nothing was moved"
        )


def run(records: Records, token: str, *, seconds: int, ready: int) -> bool:
    """Be the watchdog: wait to be told, at most so long; return whether it was undone."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    end = time.monotonic() + seconds
    place = records.socket(token)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(place))
        try:
            with socket.socket(fileno=ready) as starter:
                starter.sendall(_READY)
            while (left := end - time.monotonic()) > 0 and _concerned(records, token):
                told.settimeout(left)
                with contextlib.suppress(TimeoutError):
                    told.recv(16)
            with records.locked():
                return _undo(records, token)
        finally:
            place.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                records.directory.rmdir()  # only where nothing is left in it


def _concerned(records: Records, token: str) -> bool:
    """Return whether this very move still stands unconfirmed."""
    record = records.read()
    return bool(
        record and record.uplink and record.uplink.token == token and not record.uplink.confirmed
    )


def _undo(records: Records, token: str) -> bool:
    if not _concerned(records, token):
        return False
    try:
        name = give_back(records)
    except MonitorError as error:
        syslog.syslog(syslog.LOG_ERR, f"ids-appliance monitor: {error}")
        raise
    text = f"ids-appliance monitor: nobody confirmed: {name} has its addresses again"
    syslog.syslog(syslog.LOG_WARNING, text)
    return True


def give_back(records: Records) -> str:
    """Undo the move of the recorded uplink, and forget it; return its name, "" for none.

    Raises MonitorError: it is recorded still.
    """
    record = records.read()
    if record is None or record.uplink is None:
        return ""
    was = record.uplink
    uplink.undo(record.name, record.bridge, was, switch=Switch(record.ovs_run_dir))
    records.write(msgspec.structs.replace(record, uplink=None))
    tell(records, was.token)
    return was.interface


def confirm(records: Records) -> str:
    """Keep a moved uplink, and let the watchdog go; return its name. Raises MonitorError."""
    with records.locked():
        record = records.read()
        if record is None or record.uplink is None:
            raise MonitorError(
                "there is no moved uplink to confirm: it was undone, or there never was one"
            )
        if not record.uplink.confirmed:
            kept = msgspec.structs.replace(record.uplink, confirmed=True)
            records.write(msgspec.structs.replace(record, uplink=kept))
        tell(records, record.uplink.token)
        return record.uplink.interface


def tell(records: Records, token: str) -> None:
    """Let the watchdog look at the record again: it leaves where it has no say any more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asked:
        try:
            asked.sendto(b"look", str(records.socket(token)))
        except OSError:  # nobody is there: it has left, or was killed and left the file
            records.socket(token).unlink(missing_ok=True)


def listening(records: Records, token: str) -> bool:
    """Return whether the watchdog of that move is there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(str(records.socket(token)))
        except OSError:
            return False
    return True
