"""One capture file: complete under its name or not there, the caller's, whole on a full disk."""

import os
from pathlib import Path

import pytest

from ids_appliance.errors import CaptureError
from ids_appliance.monitor.checksums import sha256
from ids_appliance.monitor.onefile import OneFile
from ids_appliance.monitor.ownership import Caller, create
from tests.monitor.records import numbers, record, stream
from tests.net.namespaces import require


def me() -> Caller:
    return Caller(os.geteuid(), os.getegid())


def write(path: Path, caller: Caller, n: int = 5) -> OneFile:
    one = OneFile(path, caller)
    one.begin(stream()[0])
    one.put(*stream(*(record(i) for i in range(n))))
    return one


def test_there_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_text("the one before")
    one = write(path, me())
    assert path.read_text() == "the one before"
    one.finish()
    one.close()
    assert numbers(path) == [0, 1, 2, 3, 4] and one.sha256 == sha256(path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.pcap"]


def test_without_a_frame_it_is_a_capture_all_the_same(tmp_path: Path) -> None:
    one = write(tmp_path / "a.pcap", me(), 0)
    one.finish()
    one.close()
    assert numbers(tmp_path / "a.pcap") == []


def test_given_up_nothing_stays(tmp_path: Path) -> None:
    one = write(tmp_path / "a.pcap", me())
    one.close()
    one.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_one_left_goes_and_what_is_being_written_stays(tmp_path: Path) -> None:
    dead = tmp_path / ".a[1].pcap.4242.part"
    dead.write_bytes(b"half")
    alive = create(tmp_path / ".a[1].pcap.4243.part", me())
    one = write(tmp_path / "a[1].pcap", me())
    one.finish()
    one.close()
    os.close(alive)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".a[1].pcap.4243.part", "a[1].pcap"]


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    """In a directory of somebody else's root would overwrite whatever the link names."""
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / f".a.pcap.{os.getpid()}.part").symlink_to(precious)
    with pytest.raises(CaptureError, match="cannot write"):
        OneFile(tmp_path / "a.pcap", me())
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("name", ["missing/a.pcap", "."])
def test_where_nothing_can_be_written_it_says_so(tmp_path: Path, name: str) -> None:
    with pytest.raises(CaptureError, match=r"cannot write|is a directory"):
        OneFile(tmp_path / name, me())


def test_who_called() -> None:
    sudo = {"SUDO_UID": "1234", "SUDO_GID": "2345"}
    expected = (1234, 2345) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    assert (Caller.of(sudo).uid, Caller.of(sudo).gid) == expected
    for other in ({}, {"SUDO_UID": "1234"}, {"SUDO_UID": "-1", "SUDO_GID": "x"}):
        assert Caller.of(other) == me()


@pytest.mark.net
def test_the_caller_owns_it(tmp_path: Path) -> None:
    require()
    one = write(tmp_path / "a.pcap", Caller(1234, 2345))
    one.finish()
    one.close()
    found = (tmp_path / "a.pcap").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (1234, 2345, 0o600)


@pytest.mark.net
def test_on_a_full_disk_it_ends_with_a_whole_frame(small_disk: Path) -> None:
    one = OneFile(small_disk / "a.pcap", me())
    for n in range(500):
        one.put(*stream(record(n, 1000)))
    assert one.problem and one.frames + one.discarded == 500 and one.discarded > 100
    one.finish()
    one.close()
    assert numbers(small_disk / "a.pcap") == list(range(one.frames))
    assert one.sha256 == sha256(small_disk / "a.pcap")
