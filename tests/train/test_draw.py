"""A draw takes exactly what was asked for, the same packets from captures, tables and workers."""

import numpy as np
import pytest

from ids_appliance.errors import LabelError
from ids_appliance.train import draw as drawing
from ids_appliance.train.corpus import read_corpus
from ids_appliance.train.draw import PaperDraw, Reading, RowsDraw, draw_corpus
from ids_appliance.train.labels import Label
from ids_appliance.train.parts import INDEX
from ids_appliance.train.readers import catalogue
from ids_appliance.train.scale import Alone, Extraction, extract_corpus
from tests.train.captures import make_data
from tests.train.ciciot import make_tree

CLASSES = (0, 1, None, None)


class Backwards:
    """Does the last job first."""

    def run(self, function, jobs):
        for place in reversed(range(len(jobs))):
            yield place, function(jobs[place])


def same(a, b):
    return (
        all(np.array_equal(getattr(a, n), getattr(b, n)) for n in ("rows", "labels", "file"))
        and [a.families[i] for i in a.family] == [b.families[i] for i in b.family]
        and [(r.entry.file, r.judged) for r in a.reports]
        == [(r.entry.file, r.judged) for r in b.reports]
    )


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(drawing, "PAPER_BENIGN", 50)
    monkeypatch.setattr(drawing, "PAPER_ATTACK", 81)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("captures")
    make_data(root)
    return root


@pytest.fixture(scope="module")
def tables(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("tables")
    extract_corpus(Extraction(catalogue(data), out, piece_frames=1), Alone())
    return out


@pytest.mark.parametrize("once", [True, False])
def test_the_same_packets_whoever_reads_what(data, tables, once):
    draw = RowsDraw(7, 100, CLASSES, once)
    drawn = draw_corpus(data, draw, Reading())
    assert (tables / INDEX).is_file()
    assert same(drawn.corpus, draw_corpus(tables, draw, Reading()).corpus)
    assert same(drawn.corpus, draw_corpus(tables, draw, Reading(), workers=Backwards()).corpus)
    other = draw_corpus(tables, RowsDraw(8, 100, CLASSES, once), Reading()).corpus
    assert not np.array_equal(drawn.corpus.rows, other.rows)
    assert len(drawn.corpus.rows) == 100 and not drawn.short


def test_rows_are_spread_over_the_origins_of_both_classes(data):
    corpus = draw_corpus(data, RowsDraw(0, 80, CLASSES), Reading()).corpus
    found = {
        (origin, label): n
        for origin, label, n in zip(
            *np.unique(
                np.stack([corpus.group, corpus.labels.astype(str)]), axis=1, return_counts=True
            )[0],
            np.unique(
                np.stack([corpus.group, corpus.labels.astype(str)]), axis=1, return_counts=True
            )[1],
            strict=True,
        )
    }
    assert set(found.values()) == {10} and len(found) == 8


def test_equal_packets_of_an_origin_and_class_are_drawn_once(data):
    everything = read_corpus(data)
    drawn = draw_corpus(data, RowsDraw(0, 10**6, CLASSES), Reading())
    corpus = drawn.corpus
    key = np.column_stack(
        [np.unique(corpus.group, return_inverse=True)[1], corpus.labels, corpus.rows]
    )
    assert len(np.unique(key, axis=0)) == len(key)
    key = np.column_stack(
        [np.unique(everything.group, return_inverse=True)[1], everything.labels, everything.rows]
    )
    assert len(np.unique(key, axis=0)) == len(corpus.rows)
    assert drawn.short == {"ours": (len(corpus.rows), 10**6)}
    assert drawn.facts["ours"]["of_packets"] == len(everything.rows)


def test_what_may_not_be_shipped_is_drawn_apart(data):
    draw = RowsDraw(0, 80, CLASSES, permitted=frozenset({"o/free"}))
    drawn = draw_corpus(data, draw, Reading())
    repos = np.array([r.entry.repo for r in drawn.corpus.reports])[drawn.corpus.file]
    assert dict(zip(*np.unique(repos, return_counts=True), strict=True)) == {
        "o/free": 80,
        "o/closed": 20,
    }


def test_the_papers_packets_of_its_four_families(few, tmp_path):
    make_tree(tmp_path, n=20)
    reading = Reading(leave_out=drawing.PAPER_LEAVE_OUT)
    drawn = draw_corpus(tmp_path, PaperDraw(0, CLASSES), reading)
    corpus = drawn.corpus
    assert (corpus.labels == Label.BENIGN).sum() == 50 or drawn.short == {"benign": (40, 50)}
    families, counts = np.unique(
        np.array(corpus.families)[corpus.family[corpus.labels == 1]], return_counts=True
    )
    # 80 packets of DoS, 100 of Recon, 40 of Spoofing, 60 of Mirai are there.
    assert dict(zip(families, counts, strict=True)) == drawn.facts["attack"]["by_family"]
    assert sorted(counts.tolist()) == [20, 20, 20, 21] and set(families) == set(
        drawing.PAPER_FAMILIES
    )
    used = {corpus.reports[i].entry.file for i in np.unique(corpus.file)}
    assert not [file for file in used if "DDoS" in file or "XSS" in file]
    assert draw_corpus(tmp_path, PaperDraw(0, CLASSES), reading).facts == drawn.facts


def test_the_papers_split_can_be_said(few, tmp_path):
    make_tree(tmp_path, n=20)
    draw = PaperDraw(0, CLASSES, "DoS=60,Spoofing=1,Mirai=10,Recon=10")
    corpus = draw_corpus(tmp_path, draw, Reading()).corpus
    names = np.array(corpus.families)[corpus.family[corpus.labels == 1]]
    assert {n: (names == n).sum() for n in set(names)} == {
        **{"DoS": 60, "Spoofing": 1, "Mirai": 10, "Recon": 10},
    }
    alike = draw_corpus(tmp_path, PaperDraw(0, CLASSES, "proportional"), Reading()).corpus
    names = np.array(alike.families)[alike.family[alike.labels == 1]]
    assert len(names) == 81 and (names == "DoS").sum() > (names == "Spoofing").sum()


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("evenly", "is no split"),
        ("DoS=81", "does not name each"),
        ("DoS=1,Spoofing=1,Mirai=1,Recon=1", "adds up to 4, not 559072"),
        ("DoS=-1,Spoofing=0,Mirai=0,Recon=559073", "does not name each"),
    ],
)
def test_a_split_that_cannot_be_meant_is_named(data, split, message):
    with pytest.raises(LabelError, match=message):
        draw_corpus(data, PaperDraw(0, CLASSES, split), Reading())


def test_the_papers_numbers_add_up():
    assert drawing.PAPER_BENIGN + drawing.PAPER_ATTACK == 976_461
