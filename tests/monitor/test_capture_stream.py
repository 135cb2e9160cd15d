"""Bytes of a pcap stream come out as whole records, however they came in."""

import pytest

from ids_appliance.errors import CaptureError
from ids_appliance.monitor.stream import Records
from tests.monitor.records import START_NS, head, record

RECORDS = [record(0, 60), record(1, 0), record(2, 1500)]
WHOLE = head() + b"".join(RECORDS)


@pytest.mark.parametrize("step", [1, 7, 16, 23, 24, 25, 100, len(WHOLE)])
def test_whole_records_however_they_are_cut(step: int) -> None:
    stream = Records()
    got = b""
    for at in range(0, len(WHOLE), step):
        data, ends = stream.feed(WHOLE[at : at + step])
        assert (ends[-1] if ends else 0) == len(data)
        got += data
    assert stream.head == head() and got == b"".join(RECORDS)


def test_where_records_end_and_when_they_were() -> None:
    stream = Records()
    data, ends = stream.feed(WHOLE + RECORDS[0][:30])
    assert ends == [76, 92, 92 + 1516]
    assert [stream.time_ns(data, at) - START_NS for at in (0, 76, 92)] == [0, 10**6, 2 * 10**6]


def test_microseconds() -> None:
    stream = Records()
    data, _ = stream.feed(b"\xd4\xc3\xb2\xa1" + head()[4:] + record(5))
    assert stream.time_ns(data) == START_NS // 10**9 * 10**9 + 5 * 10**6 * 1000


@pytest.mark.parametrize("data", [b"Error: no such container".ljust(40), b"\0" * 24])
def test_something_else_is_named(data: bytes) -> None:
    with pytest.raises(CaptureError, match="no pcap"):
        Records().feed(data)


def test_an_impossible_length_is_named() -> None:
    stream = Records()
    with pytest.raises(CaptureError, match="damaged"):
        stream.feed(head() + record(0)[:8] + b"\xff" * 8)
