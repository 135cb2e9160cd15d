"""Captures of several ports become one, in order of time."""

import struct
from pathlib import Path

import pytest

from ids_appliance.capture.file import CaptureFile
from ids_appliance.errors import LabError
from ids_appliance.lab.capture import first_time_ns, merge


def pcap(path: Path, times: list[int], mark: int) -> Path:
    records = [struct.pack("=IIIIB", *divmod(t, 10**9), 1, 60, mark) for t in times]
    head = struct.pack("=IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, 1)
    path.write_bytes(head + b"".join(records))
    return path


def test_in_order_of_time(tmp_path: Path) -> None:
    one = pcap(tmp_path / "1", [5, 10**9 + 7, 3 * 10**9], 1)
    two = pcap(tmp_path / "2", [6, 10**9 + 7, 2 * 10**9], 2)
    empty = pcap(tmp_path / "3", [], 3)
    out = tmp_path / "all.pcap"
    merge([one, two, empty], out)
    found = [
        (int(f["timestamp_ns"]), int(batch.data[f["offset"]]))
        for batch in CaptureFile(out).batches()
        for f in batch.frames
    ]
    s = 10**9
    assert found == [(5, 1), (6, 2), (s + 7, 1), (s + 7, 2), (2 * s, 2), (3 * s, 1)]
    assert first_time_ns(out) == 5 and first_time_ns(empty) == 0


def test_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"not a capture at all, by no means")
    with pytest.raises(LabError, match="x is not what tcpdump"):
        merge([tmp_path / "x"], tmp_path / "out")
