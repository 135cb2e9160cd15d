"""The service manager is told where it listens, and never waited for."""

import os
import socket

import pytest

from ids_appliance.gateway.notify import Notify


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """A socket of each kind, and the name by which NOTIFY_SOCKET gives it."""
    name = f"@ids-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name[1:] if name.startswith("@") else name)
        listening.settimeout(60)
        yield listening, name


def test_each_state_is_one_datagram(manager) -> None:
    listening, name = manager
    notify = Notify({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "3000000"})
    assert notify.watchdog_s == 3.0
    assert notify.ready("watching eth1\nSTOPPING=1")
    assert listening.recv(2000) == b"READY=1\nSTATUS=watching eth1 STOPPING=1"
    assert notify.alive() and listening.recv(2000) == b"WATCHDOG=1"
    assert notify.status("window 3 open") and listening.recv(2000) == b"STATUS=window 3 open"
    assert notify.reloading(17) and listening.recv(99) == b"RELOADING=1\nMONOTONIC_USEC=17"
    assert notify.stopping() and listening.recv(2000) == b"STOPPING=1"


def test_a_manager_that_does_not_read_is_not_waited_for(manager) -> None:
    listening, name = manager
    notify = Notify({"NOTIFY_SOCKET": name})
    sent = [notify.status(str(n)) for n in range(5000)]
    assert sent[0] and not sent[-1]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"NOTIFY_SOCKET": ""},
        {"NOTIFY_SOCKET": "relative"},
        {"NOTIFY_SOCKET": "@"},
        {"NOTIFY_SOCKET": "/nonexistent/socket"},
        {"NOTIFY_SOCKET": "/" + "x" * 300},
        {"NOTIFY_SOCKET": "/a\0b"},
    ],
)
def test_without_a_manager_nothing_happens(environment) -> None:
    notify = Notify({**environment, "WATCHDOG_USEC": "1"})
    assert not any((notify.ready(), notify.alive(), notify.stopping(), notify.status("x")))


def test_a_watchdog_of_another_process_is_not_ours(tmp_path) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "s"), "WATCHDOG_USEC": "1000000"}
    assert Notify({**environment, "WATCHDOG_PID": "1"}).watchdog_s is None
    assert Notify({**environment, "WATCHDOG_PID": str(os.getpid())}).watchdog_s == 1.0
    assert Notify({**environment, "WATCHDOG_USEC": "soon"}).watchdog_s is None
    assert Notify({"WATCHDOG_USEC": "1000000"}).watchdog_s is None
