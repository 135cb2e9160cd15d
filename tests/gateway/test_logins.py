"""Who counts as logged in: a session and a connection, never one of them alone."""

import ipaddress
import os
import random
import socket
import struct
from pathlib import Path

import pytest

from ids_appliance.gateway.logins import Records, logged_in

NOISE = random.Random(1)
PEER, OTHER = "198.51.100.7", "2001:db8::7"


def line(number: int, remote: str, state: str = "01") -> str:
    packed = ipaddress.ip_address(remote).packed
    words = [packed[at : at + 4] for at in range(0, len(packed), 4)]
    shown = "".join(f"{struct.unpack('=I', word)[0]:08X}" for word in words)
    local = "0" * len(shown)
    return f"  {number}: {local}:0016 {shown}:D431 {state} 00000000:00000000 00:0 0 0 0 1\n"


def utmp(kind: int, address: str) -> bytes:
    packed = ipaddress.ip_address(address).packed.ljust(16, b"\0")
    # struct utmp, bits/utmp.h: the offsets of glibc on 64-bit machines.
    record = bytearray(384)
    struct.pack_into("=h", record, 0, kind)
    record[348:364] = packed
    return bytes(record)


@pytest.fixture
def records(tmp_path: Path) -> Records:
    (tmp_path / "sessions").mkdir()
    tcp, tcp6 = tmp_path / "tcp", tmp_path / "tcp6"
    tcp.write_text("  sl  local_address rem_address   st\n" + line(0, PEER))
    tcp6.write_text("  sl  local_address rem_address   st\n" + line(0, OTHER))
    return Records(tmp_path / "sessions", tmp_path / "utmp", (tcp, tcp6))


def session(records: Records, name: str, **fields: str) -> None:
    given = {"UID": "1000", "ACTIVE": "1", "STATE": "active", "REMOTE": "1", "SERVICE": "sshd"}
    text = "".join(f"{key}={value}\n" for key, value in (given | fields).items())
    (records.sessions / name).write_text(f"# This is private data. Do not parse.\n{text}")


def packed(*addresses: str) -> list[bytes]:
    return sorted(ipaddress.ip_address(address).packed for address in addresses)


def test_a_session_with_its_connection(records: Records) -> None:
    session(records, "3", REMOTE_HOST=PEER)
    session(records, "4", REMOTE_HOST=OTHER)
    os.mkfifo(records.sessions / "3.ref")
    assert logged_in(records) == packed(PEER, OTHER)


def test_a_connection_alone_is_anybodys(records: Records) -> None:
    assert logged_in(records) == []


def test_a_session_without_its_connection_is_stale(records: Records) -> None:
    session(records, "3", REMOTE_HOST="198.51.100.8")
    assert logged_in(records) == []
    records.connections[0].write_text("header\n" + line(0, PEER, "06") + line(1, PEER, "03"))
    session(records, "3", REMOTE_HOST=PEER)
    assert logged_in(records) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"REMOTE": "0", "REMOTE_HOST": PEER},
        {"STATE": "closing", "REMOTE_HOST": PEER},
        {"REMOTE_HOST": "host.example"},
        {"REMOTE_HOST": ""},
        {},
    ],
)
def test_sessions_that_name_nobody(records: Records, fields: dict[str, str]) -> None:
    session(records, "3", **fields)
    assert logged_in(records) == []


def test_utmp_where_there_is_no_logind(records: Records) -> None:
    records.utmp.write_bytes(utmp(7, PEER) + utmp(8, OTHER) + utmp(7, OTHER)[:100])
    assert logged_in(records) == packed(PEER)
    records.utmp.write_bytes(utmp(8, PEER) + utmp(7, OTHER))
    assert logged_in(records) == packed(OTHER)


def test_ipv4_inside_ipv6_is_ipv4(records: Records) -> None:
    records.connections[0].unlink()
    records.connections[1].write_text("header\n" + line(0, f"::ffff:{PEER}"))
    session(records, "3", REMOTE_HOST=PEER)
    assert logged_in(records) == packed(PEER)


def test_noise_is_survived(records: Records) -> None:
    (records.sessions / "1").write_bytes(b"\xff\0REMOTE=1\nREMOTE_HOST=\xfe\n" * 9999)
    records.utmp.write_bytes(NOISE.randbytes(384 * 3 + 5))
    records.connections[0].write_bytes(NOISE.randbytes(5000))
    assert logged_in(records) == []


def test_a_real_connection_is_found_in_the_kernels_own_table(tmp_path: Path) -> None:
    real = Records(tmp_path, tmp_path / "utmp")
    session(real, "3", REMOTE_HOST="127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()):
            assert logged_in(real) == []  # loopback is nobody's
