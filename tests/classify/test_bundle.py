"""A bundle is read back exactly, written atomically, and everything else is a BundleError."""

import io
import json
import os
import shutil
import threading
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ids_appliance.classify import bundle as module
from ids_appliance.classify.bundle import key_widths, load_bundle, make_bundle, save_bundle
from ids_appliance.errors import BundleError
from ids_appliance.schema import RECORD_HASH, SCHEMA_HASH
from tests.bundles import random_arrays, random_bundle, random_members, random_rows
from tests.conftest import ROOT
from tests.examples import examples
from tests.reference import forest as twin


@pytest.fixture
def path(tmp_path, small_bundle):
    save_bundle(small_bundle, tmp_path / "model")
    return tmp_path / "model"


def test_round_trip(path, small_bundle):
    loaded = load_bundle(path)
    assert loaded.grid.model_id == small_bundle.grid.model_id
    assert loaded.grid.features == small_bundle.grid.features
    for ours, theirs in zip(loaded.grid.cuts, small_bundle.grid.cuts, strict=True):
        assert np.array_equal(ours, theirs)
    assert sum(key_widths(loaded.grid)) == loaded.forest.key_bytes
    rows, out, expected = random_rows(1, 500), np.empty(500), np.empty(500)
    loaded.forest.evaluate_rows(rows, out)
    small_bundle.forest.evaluate_rows(rows, expected)
    assert out.tobytes() == expected.tobytes()
    assert loaded.card["about"] == "random, seed 1"
    assert {p.name for p in path.iterdir()} == {"card.json", "card.md", "arrays.npz"}


def test_equal_models_give_equal_bytes(tmp_path):
    for name in "ab":
        save_bundle(random_bundle(7), tmp_path / name)
    for file in ("card.json", "card.md", "arrays.npz"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_numpy_reads_the_arrays(path, small_bundle):
    with np.load(path / "arrays.npz", allow_pickle=False) as arrays:
        assert {n: arrays[n].tobytes() for n in arrays} == {
            n: a.tobytes() for n, a in small_bundle.arrays.items()
        }


def test_model_id_changes_with_whatever_judges(small_bundle):
    arrays = random_arrays(1)
    other = make_bundle(arrays, 0.25, card={})
    leaves = arrays["leaves"].copy()
    leaves[0] = np.nextafter(leaves[0], 0)
    nudged = make_bundle(arrays | {"leaves": leaves}, 0.5, card={})
    ids = {b.grid.model_id for b in (small_bundle, other, nudged)}
    assert len(ids) == 3
    assert make_bundle(arrays, 0.5, card={"x": 1}).grid.model_id == small_bundle.grid.model_id


def test_no_reader_ever_sees_half_a_bundle(path):
    bundles = [random_bundle(1), random_bundle(2)]
    known = {b.grid.model_id for b in bundles}
    done = threading.Event()

    def write():
        for i in range(60):
            save_bundle(bundles[i % 2], path)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not done.is_set():
        seen.add(load_bundle(path).grid.model_id)
    writer.join()
    assert seen <= known
    assert [p.name for p in path.parent.iterdir()] == ["model"]


def test_other_things_are_not_overwritten(tmp_path, small_bundle):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "thesis.tex").write_text("years of work")
    (tmp_path / "y").write_text("a file")
    for name in "xy":
        with pytest.raises(BundleError, match="is not a bundle"):
            save_bundle(small_bundle, tmp_path / name)
    assert (tmp_path / "x" / "thesis.tex").exists()


def test_members_come_back_exactly(tmp_path):
    bundle = make_bundle(random_members(1), 0.5, card={})
    save_bundle(bundle, tmp_path / "vote")
    loaded = load_bundle(tmp_path / "vote")
    assert loaded.card["format"] == 2 and loaded.grid.model_id == bundle.grid.model_id
    assert loaded.forest.members == ("forest", "logistic", "xgboost", "lightgbm")
    rows, out, expected = random_rows(1, 500), np.empty((500, 4)), np.empty((500, 4))
    loaded.forest.evaluate_rows_each(rows, out)
    bundle.forest.evaluate_rows_each(rows, expected)
    assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", ["iot-top20", "iot-all60"])
def test_what_shipped_first_is_still_read_as_it_was(name):
    bundle = load_bundle(ROOT / "models" / name)
    assert bundle.card["format"] == 1 and bundle.forest.members == ("forest",)
    rows, out = random_rows(2, 60), np.empty(60)
    bundle.forest.evaluate_rows(rows, out)
    arrays = dict(bundle.arrays)
    assert out.tolist() == [twin.probability(arrays, twin.encode(arrays, row)) for row in rows]


def test_a_format_says_which_arrays_there_are(tmp_path):
    save_bundle(make_bundle(random_members(1), 0.5, card={}), tmp_path / "vote")
    edit_card(tmp_path / "vote", format=1)
    with pytest.raises(BundleError, match="exactly the arrays"):
        load_bundle(tmp_path / "vote")


def edit_card(path, **changes):
    card = json.loads((path / "card.json").read_text())
    card.update(changes)
    (path / "card.json").write_text(json.dumps(card))


def rewrite(path, arrays, compression=zipfile.ZIP_STORED):
    """Write arrays as an attacker would: digest and model id made to fit where they can be."""
    with zipfile.ZipFile(path / "arrays.npz", "w", compression) as archive:
        for name in sorted(arrays):
            entry = io.BytesIO()
            np.lib.format.write_array(entry, arrays[name], version=(1, 0))
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), entry.getvalue(), compression)
    edit_card(path, arrays_digest=module._digest(arrays).hex())


CARDS = [
    ({"schema_hash": "00" * 32}, "another packet record"),
    ({"arrays_digest": "00" * 32}, "checksum"),
    ({"model_id": "00" * 16}, "model id"),
    ({"threshold": 0.25}, "model id"),
    ({"threshold": 1.5}, "not a probability"),
    ({"threshold": "0.5"}, "threshold"),
    ({"threshold": True}, "threshold"),
    ({"format": 3}, "format is 3"),
    ({"format": 2}, "exactly the arrays"),
    ({"format": True}, "format"),
    ({"features": ["src_port", "colour"]}, "does not have"),
    ({"features": [{}]}, "does not have"),
    ({"features": "all"}, "features"),
]


@pytest.mark.parametrize(("changes", "message"), CARDS)
def test_wrong_cards(path, changes, message):
    edit_card(path, **changes)
    with pytest.raises(BundleError, match=message):
        load_bundle(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b"[]", "not an object"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"format": NaN}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b" " * (module.MAX_CARD_BYTES + 1), "larger than"),
        (b"{}", "lacks"),
    ],
)
def test_cards_that_are_none(path, content, message):
    (path / "card.json").write_bytes(content)
    with pytest.raises(BundleError, match=message) as error:
        load_bundle(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["card.json", "arrays.npz"])
def test_missing_files(path, name):
    (path / name).unlink()
    with pytest.raises(BundleError, match=f"not complete: {name}"):
        load_bundle(path)
    with pytest.raises(BundleError, match="cannot open"):
        load_bundle(path / "nothing")
    with pytest.raises(BundleError, match="cannot open"):
        load_bundle(path / "card.md")


def test_a_pipe_in_the_place_of_a_file_does_not_hang(path):
    (path / "arrays.npz").unlink()
    os.mkfifo(path / "arrays.npz")
    with pytest.raises(BundleError):
        load_bundle(path)


def test_malicious_arrays(path):
    good = random_arrays(1)
    right = good["node_right"].copy()
    right[0] = 0
    nan = good["leaves"].copy()
    nan[3] = np.nan
    # A bit feature cannot be cut at 5.
    bit = [i for i, f in enumerate(good["features"]) if f >= 40]
    cuts = good["cuts"].copy()
    cuts[int(good["cut_counts"][: bit[0]].sum())] = 5
    cases = [
        ({"node_right": right}, "invalid: node 0"),
        ({"leaves": nan}, "not a probability"),
        ({"cuts": cuts}, "outside its values"),
        ({"leaves": good["leaves"].astype("<f4")}, "another type"),
        ({"leaves": good["leaves"].reshape(1, -1)}, "header"),
        ({"leaves": np.array([{}], object)}, "header"),
        ({"more": good["cuts"]}, "exactly the arrays"),
    ]
    for changes, message in cases:
        arrays = good | changes
        if "leaves" in changes and changes["leaves"].dtype == object:
            with zipfile.ZipFile(path / "arrays.npz", "w") as archive:
                for name in sorted(arrays):
                    entry = io.BytesIO()
                    np.lib.format.write_array(entry, arrays[name], version=(1, 0))
                    archive.writestr(f"{name}.npy", entry.getvalue())
        else:
            rewrite(path, arrays)
        with pytest.raises(BundleError, match=message):
            load_bundle(path)
    missing = dict(good)
    del missing["leaves"]
    rewrite(path, missing)
    with pytest.raises(BundleError, match="exactly the arrays"):
        load_bundle(path)


def test_compressed_and_huge_entries(path):
    good = random_arrays(1)
    rewrite(path, good, zipfile.ZIP_DEFLATED)
    with pytest.raises(BundleError, match="compressed"):
        load_bundle(path)
    # A header that promises a terabyte.
    save_bundle(random_bundle(1), path)
    content = (path / "arrays.npz").read_bytes()
    n = len(good["leaves"])
    huge = content.replace(f"({n},)".encode(), f"({10 ** len(str(n)) - 1},)".encode())
    assert huge != content
    (path / "arrays.npz").write_bytes(huge)
    with pytest.raises(BundleError, match="damaged"):
        load_bundle(path)
    with open(path / "arrays.npz", "wb") as file:
        file.truncate(module.MAX_ARRAY_BYTES + 1)
    with pytest.raises(BundleError, match="larger than"):
        load_bundle(path)


@settings(examples(300), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_mutation_is_a_bundle_error_or_the_same_model(tmp_path, small_bundle, data):
    path = tmp_path / "mutated"
    shutil.rmtree(path, ignore_errors=True)
    save_bundle(small_bundle, path)
    file = path / data.draw(st.sampled_from(["card.json", "arrays.npz"]))
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(
            st.integers(0, len(content) - 1) | st.integers(len(content) - 900, len(content) - 1)
        )
        kind = data.draw(st.sampled_from(["set", "cut", "insert", "repeat"]))
        if kind == "set":
            content[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del content[at : at + data.draw(st.integers(1, 40))]
        elif kind == "insert":
            content[at:at] = data.draw(st.binary(max_size=20))
        else:
            content[at:at] = content[max(0, at - 200) : at]
        if len(content) < 1000:
            break
    file.write_bytes(content)
    try:
        loaded = load_bundle(path)
    except BundleError as error:
        assert "\n" not in str(error)
    else:
        assert loaded.grid.model_id == small_bundle.grid.model_id


@pytest.mark.parametrize("name", ["card.json", "arrays.npz"])
def test_a_directory_in_the_place_of_a_file(small_bundle, tmp_path, name):
    save_bundle(small_bundle, tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    (tmp_path / "model" / name).mkdir()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(BundleError, match=f"{name}: Is a directory"):
            load_bundle(tmp_path / "model")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_card_writes_nothing_of_its_own_into_the_log(small_bundle, tmp_path):
    save_bundle(small_bundle, tmp_path / "model")
    card = tmp_path / "model" / "card.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"schema_hash": "x\n\x1b[2Jmodel"}))
    with pytest.raises(BundleError, match="schema hash") as raised:
        load_bundle(tmp_path / "model")
    assert str(raised.value).isprintable()


def test_a_model_that_asks_of_addresses_carries_the_whole_records_hash(tmp_path):
    with_addresses = make_bundle(random_arrays(4, features=[2, 4, 61, 66]), 0.5, card={})
    without = make_bundle(random_arrays(4, features=[2, 4, 5, 59]), 0.5, card={})
    assert without.grid.schema_hash == SCHEMA_HASH == bytes.fromhex(without.card["schema_hash"])
    assert with_addresses.grid.schema_hash == RECORD_HASH != SCHEMA_HASH
    assert with_addresses.card["features"] == ["proto", "length", "src_octet_1", "dst_octet_2"]
    save_bundle(with_addresses, tmp_path / "m")
    assert load_bundle(tmp_path / "m").grid.model_id == with_addresses.grid.model_id
    card = json.loads((tmp_path / "m/card.json").read_text())
    (tmp_path / "m/card.json").write_text(json.dumps(card | {"schema_hash": SCHEMA_HASH.hex()}))
    with pytest.raises(BundleError, match="another packet record"):
        load_bundle(tmp_path / "m")
