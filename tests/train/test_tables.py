"""A table gives back what was written, is whole or not there, and is refused if it is not ours."""

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest

from ids_appliance import schema
from ids_appliance.errors import TableError
from ids_appliance.schema import COLUMNS
from ids_appliance.train import tables
from ids_appliance.train.extract import Chunk
from ids_appliance.train.tables import TableWriter, about_table, clear_unfinished, read_table

FAMILIES = ("Benign", "DoS")


def chunk(n, *, seed=0):
    rng = np.random.default_rng(seed)
    rows = np.stack([rng.integers(0, f.domain, n) for f in COLUMNS], axis=1).astype(np.uint16)
    return Chunk(
        rows,
        rng.integers(0, 4, n).astype(np.uint8),
        rng.integers(0, 2, n).astype(np.uint8),
        np.arange(n, dtype=np.uint64) + 2**40,
    )


def write(path, *chunks):
    writer = TableWriter(path, FAMILIES)
    for one in chunks:
        writer.write(one)
    writer.close({"capture": "a.pcap"})
    return path


def same(a, b):
    return all(
        np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(Chunk)
    )


def test_back_comes_what_was_written_whatever_the_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROW_GROUP", 64)
    whole = chunk(200)
    one = write(tmp_path / "one.parquet", whole)
    two = write(
        tmp_path / "two.parquet", *(whole.select(slice(i, i + 7)) for i in range(0, 200, 7))
    )
    assert one.read_bytes() == two.read_bytes()
    groups = list(read_table(one, FAMILIES))
    assert [len(g.rows) for g in groups] == [64, 64, 64, 8]
    parts = (
        np.concatenate([getattr(g, f.name) for g in groups]) for f in dataclasses.fields(Chunk)
    )
    assert same(Chunk(*parts), whole)
    about = about_table(one)
    assert about["rows"] == 200 and about["capture"] == "a.pcap"


def test_other_programs_can_read_it(tmp_path):
    one = chunk(10)
    table = pq.read_table(write(tmp_path / "t.parquet", one))
    assert table.column_names == ["frame", "label", "family", *(c.name for c in COLUMNS)]
    assert table.column("length").to_pylist() == one.rows[:, 4].tolist()
    assert set(table.column("label").to_pylist()) <= {"benign", "malicious", "related", "ignore"}
    assert table.schema.metadata[b"ids-appliance.schema"].decode() == schema.RECORD_HASH.hex()


def test_a_table_without_rows_is_a_table(tmp_path):
    path = write(tmp_path / "t.parquet", chunk(0))
    assert about_table(path)["rows"] == 0 and list(read_table(path, FAMILIES)) == []


def test_there_is_nothing_until_it_is_whole(tmp_path):
    path = tmp_path / "t.parquet"
    writer = TableWriter(path, FAMILIES)
    writer.write(chunk(5))
    assert not path.exists() and len(list(tmp_path.iterdir())) == 1
    writer.discard()
    assert list(tmp_path.iterdir()) == []
    TableWriter(path, FAMILIES)
    clear_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_table_of_another_record_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "RECORD_HASH", b"\x12" * 32)
    path = write(tmp_path / "t.parquet", chunk(5))
    monkeypatch.undo()
    for read in (lambda: list(read_table(path, FAMILIES)), lambda: about_table(path)):
        with pytest.raises(TableError, match="another packet record") as raised:
            read()
        assert "\n" not in str(raised.value) and "121212121212" in str(raised.value)


def test_what_is_no_table_of_ours_is_refused(tmp_path):
    good = write(tmp_path / "good.parquet", chunk(3000))
    foreign = tmp_path / "foreign.parquet"
    pq.write_table(pq.read_table(good).replace_schema_metadata({}), foreign)
    fewer = tmp_path / "fewer.parquet"
    pq.write_table(pq.read_table(good).drop_columns(["ttl"]), fewer)
    content = good.read_bytes()
    (tmp_path / "cut.parquet").write_bytes(content[:-10])
    for name, message in (
        ("foreign", "names no packet record"),
        ("fewer", "does not say what it holds"),
        ("cut", "not a complete Parquet file"),
        ("none", "is not there"),
    ):
        with pytest.raises(TableError, match=message):
            list(read_table(tmp_path / f"{name}.parquet", FAMILIES))
    with pytest.raises(TableError, match="which its corpus does not"):
        list(read_table(good, ("Benign",)))


def test_garbled_pages_are_found(tmp_path):
    path = write(tmp_path / "t.parquet", chunk(3000))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    path.write_bytes(content)
    # `extract` keeps a table that says of itself that it is whole, so it has to be removed.
    with pytest.raises(TableError, match="is damaged: .*; remove it and extract again"):
        list(read_table(path, FAMILIES))


def test_a_directory_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(TableError, match="cannot write"):
        TableWriter(tmp_path / "none" / "t.parquet", FAMILIES)
