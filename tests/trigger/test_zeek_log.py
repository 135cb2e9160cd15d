"""Zeek's log followed: appended to, rotated, emptied, missing, and not what it should be."""

import os
from pathlib import Path

import pytest

from ids_appliance.trigger.zeek_log import MAX_BEHIND, MAX_COUNT, MAX_LINE, MAX_READ, LogTail


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "trigger.log"
    path.write_bytes(b"")
    return path


@pytest.fixture
def tail(log: Path):
    tail = LogTail(log)
    assert list(tail.lines()) == []
    yield tail
    tail.close()


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_what_was_there_before_is_over(log: Path) -> None:
    append(log, b"old\nhalf of")
    tail = LogTail(log)
    assert list(tail.lines()) == []
    append(log, b" an old one\nnew\n")
    assert list(tail.lines()) == [b"new"]


def test_lines_in_pieces(log: Path, tail: LogTail) -> None:
    told = []
    for byte in b"one\n\ntwo\nthr":
        append(log, bytes([byte]))
        told += tail.lines()
    assert told == [b"one", b"two"]
    append(log, b"ee\n")
    assert list(tail.lines()) == [b"three"]


def test_rotation_loses_nothing(log: Path, tail: LogTail) -> None:
    append(log, b"before\n")
    log.rename(log.with_name("trigger.1.log"))
    append(log.with_name("trigger.1.log"), b"last\n")
    append(log, b"after\n")
    assert list(tail.lines()) == [b"before", b"last"]
    assert list(tail.lines()) == [b"after"]
    assert tail.counts["zeek_log_opened"] == 2


def test_a_file_that_is_gone_and_comes_again(log: Path, tail: LogTail) -> None:
    append(log, b"one\n")
    assert list(tail.lines()) == [b"one"]
    log.unlink()
    assert list(tail.lines()) == []
    append(log, b"two\n")
    assert list(tail.lines()) == [b"two"]


def test_a_file_that_appears_is_read_from_its_start(tmp_path: Path) -> None:
    tail = LogTail(tmp_path / "later.log")
    assert list(tail.lines()) == []
    append(tmp_path / "later.log", b"first\n")
    assert list(tail.lines()) == [b"first"]


def test_truncation(log: Path, tail: LogTail) -> None:
    append(log, b"a long line of the last run\nhalf")
    assert list(tail.lines()) == [b"a long line of the last run"]
    os.truncate(log, 0)
    append(log, b"new\n")
    assert list(tail.lines()) == [b"new"]
    assert tail.counts["zeek_log_truncated"] == 1


def test_a_line_without_end_is_passed_over(log: Path, tail: LogTail) -> None:
    for _ in range(5):
        append(log, b"x" * MAX_LINE)
        assert list(tail.lines()) == []
    append(log, b"x\nshort\n" + b"y" * (MAX_LINE + 1) + b"\nnext\n")
    assert list(tail.lines()) == [b"short", b"next"]
    assert tail.counts["zeek_lines_too_long"] == 2


def test_no_more_than_a_bounded_part_at_a_time(log: Path, tail: LogTail) -> None:
    append(log, b"0123456\n" * (MAX_READ // 8 + 5))
    assert len(list(tail.lines())) == MAX_READ // 8
    assert list(tail.lines()) == [b"0123456"] * 5


def test_far_behind_the_oldest_are_given_up(log: Path, tail: LogTail) -> None:
    append(log, b"0123456\n" * (MAX_BEHIND // 8 + 1) + b"latest\n")
    lines = list(tail.lines())
    assert lines[-1] == b"latest" and len(lines) <= MAX_READ // 8 + 1
    assert set(lines[:-1]) == {b"0123456"}
    assert tail.counts["zeek_bytes_given_up"] == MAX_BEHIND + 8 + 7 - MAX_READ


def test_a_file_that_claims_to_be_endless_stays_a_number_that_can_be_told(tmp_path: Path) -> None:
    tail = LogTail(tmp_path / "trigger.log")
    tail.counts["zeek_bytes_given_up"] = MAX_COUNT - 5
    append(tmp_path / "trigger.log", b"")
    assert list(tail.lines()) == []
    os.truncate(tmp_path / "trigger.log", 10 * MAX_BEHIND)
    assert list(tail.lines()) == [] and tail.counts["zeek_bytes_given_up"] == MAX_COUNT
    append(tmp_path / "trigger.log", b"\nnext\n")
    assert list(tail.lines()) == [b"next"]


@pytest.mark.parametrize("kind", ["fifo", "directory", "link"])
def test_nothing_but_a_file_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "odd"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        (tmp_path / "target").write_bytes(b"secret\n")
        path.symlink_to(tmp_path / "target")
    tail = LogTail(path)
    assert list(tail.lines()) == [] and list(tail.lines()) == []
    assert tail.counts["zeek_log_opened"] == 0
