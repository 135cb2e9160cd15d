"""A directory is read whole: what cannot be used is named, counted, and stops only if asked to."""

import hashlib

import numpy as np
import pytest

from ids_appliance.errors import LabelError
from ids_appliance.train import corpus as corpus_module
from ids_appliance.train.corpus import read_corpus
from ids_appliance.train.labels import Label
from ids_appliance.train.sampling import spread
from tests.ext import frames as f
from tests.train.captures import entry, make_data, save_labels, write_pcap

SYN = f.ethernet(f.ipv4(f.tcp(b"abc")))
STP = f.ethernet(b"x" * 40, 0x88CC)


def statuses(corpus):
    return {r.entry.file: (r.status, r.frames, r.judged) for r in corpus.reports}


def test_reads_labels_families_and_origins(tmp_path):
    make_data(tmp_path, n=30)
    corpus = read_corpus(tmp_path)
    assert corpus.rows.shape == (4 * 60 + 30, 68)
    assert np.bincount(corpus.labels).tolist() == [4 * 30 + 30, 4 * 30]
    assert set(np.array(corpus.families)[corpus.family[corpus.labels == 1]]) == {"DoS"}
    assert set(corpus.group.tolist()) == {"home", "office", "lab", "hall"}
    assert statuses(corpus)["kdd/records.csv"] == ("skipped", 0, 0)
    assert corpus.select(corpus.labels == Label.MALICIOUS).rows.shape == (120, 68)


def test_frames_that_cannot_be_judged_are_not_packets(tmp_path):
    write_pcap(tmp_path / "a/x.pcap", [SYN, STP, SYN])
    save_labels(tmp_path, [entry("a/x.pcap")])
    assert statuses(read_corpus(tmp_path)) == {"a/x.pcap": ("used", 3, 2)}


def test_damage_is_named_and_what_is_readable_is_used(tmp_path):
    write_pcap(tmp_path / "a/good.pcap", [SYN] * 5)
    write_pcap(tmp_path / "a/truncated.pcap", [SYN] * 5, end=24 + 3 * (16 + len(SYN)) + 20)
    (tmp_path / "a/text.pcap").write_text("not a capture at all, but text")
    write_pcap(tmp_path / "a/changed.pcap", [SYN] * 4)
    content = (tmp_path / "a/good.pcap").read_bytes()
    entries = [
        entry("a/good.pcap", sha256_uncompressed=hashlib.sha256(content).hexdigest()),
        entry("a/truncated.pcap"),
        entry("a/text.pcap"),
        entry("a/missing.pcap"),
        entry("a/changed.pcap", sha256_uncompressed="00" * 32),
    ]
    save_labels(tmp_path, entries)
    corpus = read_corpus(tmp_path)
    assert statuses(corpus) == {
        "a/good.pcap": ("used", 5, 5),
        "a/truncated.pcap": ("damaged", 3, 3),
        "a/text.pcap": ("damaged", 0, 0),
        "a/missing.pcap": ("missing", 0, 0),
        "a/changed.pcap": ("damaged", 4, 4),
    }
    assert len(corpus.rows) == 12
    assert "SHA-256" in corpus.reports[4].detail
    with pytest.raises(LabelError, match=r"a/truncated.pcap is damaged: .*ends in the middle"):
        read_corpus(tmp_path, on_error="stop")


def test_captures_without_payload_are_left_out_unless_asked_for(tmp_path):
    write_pcap(tmp_path / "a/cut.pcap", [SYN] * 5, cut=54)
    write_pcap(tmp_path / "a/good.pcap", [SYN] * 5)
    save_labels(tmp_path, [entry("a/cut.pcap"), entry("a/good.pcap")])
    assert statuses(read_corpus(tmp_path))["a/cut.pcap"] == ("cut", 5, 5)
    assert len(read_corpus(tmp_path).rows) == 5
    assert len(read_corpus(tmp_path, keep_cut=True).rows) == 10


def test_patterns_leave_out_files_origins_and_repositories(tmp_path):
    make_data(tmp_path, n=12)
    everything = len(read_corpus(tmp_path).rows)
    for pattern, fewer in (("home/*", 36), ("lab", 24), ("o/closed", 24), ("nothing", 0)):
        assert everything - len(read_corpus(tmp_path, leave_out=[pattern]).rows) == fewer
    with pytest.raises(LabelError, match="no capture that can be used"):
        read_corpus(tmp_path, leave_out=["*"])


def test_of_a_corpus_larger_than_memory_so_many_of_each_capture_are_kept(tmp_path, monkeypatch):
    make_data(tmp_path, n=60)
    whole = read_corpus(tmp_path)
    usable = whole.labels <= Label.MALICIOUS
    monkeypatch.setattr(corpus_module, "AT_ONCE", 5 * 40)
    with pytest.raises(LabelError, match="--max-per-capture"):
        read_corpus(tmp_path)
    few = read_corpus(tmp_path, most=40)
    assert np.bincount(few.file).tolist() == [40] * 5
    # The same ones as of a corpus that is there as a whole.
    assert (few.rows == whole.rows[spread(whole.file, usable, 40)]).all()
