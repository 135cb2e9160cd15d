"""What is finished is kept, what changed is made anew, and every way there gives the same bytes."""

import gzip
import os
import random
import tracemalloc

import pytest

from ids_appliance.errors import LabelError, TableError
from ids_appliance.train import parts, scale
from ids_appliance.train.corpus import read_corpus
from ids_appliance.train.readers import catalogue
from ids_appliance.train.scale import Alone, Extraction, extract_corpus
from tests.ext import frames as f
from tests.train.captures import entry, life, make_data, save_labels, write_pcap

BATCH = 4096
"""Frames that a capture is read by; tables end between them."""


def content(directory):
    return {
        path.name: path.read_bytes()
        for path in directory.iterdir()
        if path.name.endswith((".parquet", "tables.json"))
    }


def extract(root, out, *, kept=None, **options):
    done = []
    options.setdefault("piece_frames", BATCH)
    reports = extract_corpus(
        Extraction(catalogue(root), out, **options), Alone(), progress=done.append
    )
    if kept is not None:
        assert [d.report.entry.file for d in done if d.kept] == kept
    return reports


@pytest.fixture
def long(tmp_path):
    """A directory with a capture of three tables, some of whose labels hang on its first frame."""
    root = tmp_path / "data"
    frames = [
        f.ethernet(f.ipv4(f.tcp(bytes([i % 251]), ports=(i % 60000, 80)))) for i in range(9000)
    ]
    write_pcap(root / "a/long.pcap", frames)
    late = {"match": {"t_min": 8.0}, "label": "malicious", "family": "DoS"}
    save_labels(root, [entry("a/long.pcap", rules=[late])])
    return root


def test_tables_give_the_corpus_that_captures_give(tmp_path):
    make_data(tmp_path / "data", n=60)
    (tmp_path / "data/home/quiet.pcap").unlink()
    extract(tmp_path / "data", tmp_path / "tables", on_error="skip")
    ours, theirs = read_corpus(tmp_path / "tables"), read_corpus(tmp_path / "data")
    for name in ("rows", "labels", "family", "file", "group"):
        assert (getattr(ours, name) == getattr(theirs, name)).all()
    told = [
        [(r.entry.file, r.frames, r.judged, r.sha256) for r in c.reports] for c in (ours, theirs)
    ]
    assert told[0] == told[1] and ours.families == theirs.families
    assert [r.status for r in ours.reports] == [r.status for r in theirs.reports]


def test_a_second_run_finds_everything_there(tmp_path, long):
    out = tmp_path / "tables"
    extract(long, out, kept=[])
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    assert len(before) == 3
    first = content(out)
    extract(long, out, kept=["a/long.pcap"])
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")} == before
    assert content(out) == first


@pytest.mark.parametrize("left", [0, 1, 2, 3])
def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, long, left, monkeypatch):
    extract(long, tmp_path / "whole")
    out = tmp_path / "tables"

    class Killed(BaseException):
        pass

    written = []
    close = parts.TableWriter.close

    def dies(self, about):
        if len(written) == left:
            raise Killed
        written.append(self.path)
        close(self, about)

    monkeypatch.setattr(parts.TableWriter, "close", dies)
    if left < 3:
        with pytest.raises(Killed):
            extract(long, out)
    else:
        monkeypatch.setattr(
            parts.CaptureReader, "report", lambda self: (_ for _ in ()).throw(Killed)
        )
        with pytest.raises(Killed):
            extract(long, out)
    monkeypatch.undo()
    assert len(list(out.glob("*.parquet"))) == left
    with pytest.raises(LabelError, match="no capture that can be used"):
        read_corpus(out)
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    (out / ".writing-other-123-x.parquet").write_bytes(b"left by a killed process")
    extract(long, out, kept=[])
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert content(out) == content(tmp_path / "whole")
    assert not list(out.glob(".writing-*"))
    assert (read_corpus(out).labels == read_corpus(long).labels).all()


def test_a_changed_capture_and_changed_labels_are_extracted_anew(tmp_path, long):
    out, path = tmp_path / "tables", long / "a/long.pcap"
    extract(long, out)
    first = content(out)
    os.utime(path, ns=(1, 1))
    extract(long, out, kept=["a/long.pcap"])  # only the time differs
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    extract(long, out, kept=[])
    assert content(out) != first
    save_labels(long, [entry("a/long.pcap", default="ignore")])
    extract(long, out, kept=[])
    assert set(read_corpus(out).labels.tolist()) == {3}


def test_a_damaged_table_is_written_again(tmp_path, long):
    out = tmp_path / "tables"
    extract(long, out)
    first = content(out)
    table = sorted(out.glob("*.parquet"))[1]
    table.write_bytes(table.read_bytes()[:-20])
    with pytest.raises(TableError, match="not a complete Parquet file"):
        read_corpus(out)
    extract(long, out, kept=[])
    assert content(out) == first


def test_tables_outlive_their_captures(tmp_path, long):
    out = tmp_path / "tables"
    extract(long, out)
    (long / "a/long.pcap").unlink()
    extract(long, out, kept=["a/long.pcap"])
    assert len(read_corpus(out).rows) == 9000


def test_what_is_wrong_is_named_counted_and_stops_only_if_told_to(tmp_path):
    root, syn = tmp_path / "data", f.ethernet(f.ipv4(f.tcp(b"abc")))
    write_pcap(root / "a/good.pcap", [syn] * 5)
    write_pcap(root / "a/truncated.pcap", [syn] * 5, end=24 + 3 * (16 + len(syn)) + 20)
    (root / "a/garbled.pcap.gz").write_bytes(gzip.compress(b"\xd4\xc3\xb2\xa1" * 9)[:-9])
    entries = [entry("a/good.pcap"), entry("a/missing.pcap"), entry("a/truncated.pcap")]
    save_labels(root, [*entries, entry("a/garbled.pcap.gz")])
    with pytest.raises(LabelError, match=r"a/missing.pcap is missing: no such file"):
        extract(root, tmp_path / "tables", on_error="stop")
    reports = extract(root, tmp_path / "tables", on_error="skip", kept=["a/good.pcap"])
    assert [(r.status, r.judged) for r in reports] == [
        *[("used", 5), ("missing", 0), ("damaged", 3), ("damaged", 0)],
    ]
    save_labels(root, [entries[0], entries[0] | {"file": "a/x", "rules": 3}])
    with pytest.raises(LabelError, match="rules is not a list"):
        extract(root, tmp_path / "tables")
    listed = catalogue(root, on_error="skip")
    reports = extract_corpus(Extraction(listed, tmp_path / "tables", on_error="skip"), Alone())
    assert [(r.entry.file, r.status) for r in reports][1] == ("a/x", "mislabelled")


def test_one_run_at_a_time(tmp_path, long):
    out = tmp_path / "tables"
    with scale._held(out), pytest.raises(TableError, match="another run is writing"):
        extract(long, out)
    extract(long, out)


def test_tables_of_another_record_are_neither_read_nor_added_to(tmp_path, long, monkeypatch):
    out = tmp_path / "tables"
    monkeypatch.setattr(parts, "RECORD_HASH", b"\x12" * 32)
    extract(long, out)
    monkeypatch.undo()
    for act in (lambda: read_corpus(out), lambda: extract(long, out)):
        with pytest.raises(TableError, match="another packet record") as raised:
            act()
        assert "\n" not in str(raised.value)
    (out / "tables.json").write_text("{")
    with pytest.raises(TableError, match="is damaged"):
        read_corpus(out)


def test_memory_does_not_grow_with_the_capture(tmp_path):
    rng = random.Random(1)
    peaks = []
    for n in (12_000, 36_000):
        root = tmp_path / str(n)
        write_pcap(root / "a/x.pcap", life(rng, 2000, port=1) * (n // 2000))
        save_labels(root, [entry("a/x.pcap")])
        tracemalloc.start()
        extract(root, root / "tables")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
