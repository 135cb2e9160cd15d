"""The `features` command: columns, frame numbers, counters, and what bad captures get."""

import csv
import gzip
import io
import json

from ids_appliance.schema import FEATURE_NAMES
from tests.reference import packet as twin


def rows_of(done):
    return list(csv.reader(io.StringIO(done.stdout.decode())))


def test_columns_are_the_frame_and_the_schema_in_order(started, capture):
    done = started("features", capture, "--format", "csv")
    assert done.returncode == 0
    rows = rows_of(done)
    assert rows[0] == ["frame", *FEATURE_NAMES]
    assert len(rows[0]) == 61
    assert [int(r[0]) for r in rows[1:]] == list(range(1, len(rows)))


def test_every_row_is_the_twins(ids, capture):
    data = gzip.decompress(capture.read_bytes())
    rows = rows_of(ids("features", capture))[1:]
    at, number = 24, 0
    while at < len(data):
        caplen = int.from_bytes(data[at + 8 : at + 12], "little")
        frame = data[at + 16 : at + 16 + caplen]
        at += 16 + caplen
        number += 1
        assert rows[number - 1] == [str(number), *map(str, twin.parse(frame, 1)[0][:60])]
    assert number == len(rows)


def test_frames_that_cannot_be_judged_have_no_row_but_a_number(ids, tmp_path):
    lldp = bytes(12) + b"\x88\xcc" + bytes(50)
    arp = bytes(12) + b"\x08\x06" + bytes(46)
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(lldp, arp, b"\0" * 5, arp))
    done = ids("features", path, "--format", "csv", "--stats")
    assert [r[0] for r in rows_of(done)[1:]] == ["2", "4"]
    stats = dict(line.split() for line in done.stderr.decode().splitlines())
    assert stats["frames"] == "4" and stats["judged"] == "2" and stats["unparsable"] == "2"
    assert stats["other_l2"] == "1" and stats["truncated_l2"] == "1"


def test_stats_alone_go_to_standard_output(ids, capture):
    done = ids("features", capture, "--stats")
    assert done.returncode == 0 and b"truncated_l3" in done.stdout and not done.stderr


def test_jsonl_says_the_same(ids, capture):
    done = ids("features", capture, "--format", "jsonl", "--with-name")
    first = json.loads(done.stdout.splitlines()[0])
    assert list(first) == ["capture", "frame", *FEATURE_NAMES]
    row = rows_of(ids("features", capture))[1]
    assert [str(v) for v in list(first.values())[1:]] == row


def test_a_capture_from_standard_input(ids, started, capture):
    done = started("features", "-", stdin=capture.read_bytes())
    assert done.stdout == ids("features", capture).stdout


def test_forwarded_frames_get_their_ttl_back(ids, tmp_path):
    frame = bytes.fromhex("0200000000010200000000ff0800") + bytes.fromhex(
        "450000140001000040110000c0000201c0000202"
    )
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(frame))
    ttl = 1 + FEATURE_NAMES.index("ttl")
    assert rows_of(ids("features", path))[1][ttl] == "64"
    done = ids("features", path, "--gateway-mac", "02:00:00:00:00:ff")
    assert rows_of(done)[1][ttl] == "65"
    ours = ["--gateway-mac", "02:00:00:00:00:ff", "--gateway-address", "192.0.2.1"]
    assert len(rows_of(ids("features", path, *ours))) == 1


def test_a_truncated_capture_is_read_as_far_as_it_goes(ids, refused, capture, tmp_path):
    whole = gzip.decompress(capture.read_bytes())
    path = tmp_path / "cut.pcap"
    path.write_bytes(whole[: len(whole) // 2])
    done = ids("features", path)
    assert 1000 < len(rows_of(done)) < 16_000
    assert str(path) in refused("features", path)
    packed = tmp_path / "cut.pcap.gz"
    packed.write_bytes(capture.read_bytes()[:200_000])
    done = ids("features", packed)
    assert len(rows_of(done)) > 100
    assert str(packed) in refused("features", packed)


def test_what_is_no_capture_is_refused(refused, tmp_path):
    path = tmp_path / "x"
    path.write_text("no capture at all, really")
    assert str(path) in refused("features", path)
    assert "no/such" in refused("features", "no/such.pcap")
    assert str(tmp_path) in refused("features", tmp_path)
    assert "MAC" in refused("features", path, "--gateway-mac", "zz")


def pcap(*frames):
    head = bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000")
    records = b""
    for i, frame in enumerate(frames):
        size = len(frame).to_bytes(4, "little")
        records += i.to_bytes(4, "little") + bytes(4) + size + size + frame
    return head + records
