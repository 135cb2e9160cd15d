"""KDD records: drawn in proportion, split as stated, judged on the columns that are named."""

import gzip
import json
import random

import numpy as np
import pytest
from click.testing import CliRunner

from ids_appliance.cli import main
from ids_appliance.errors import LabelError
from ids_appliance.train.kdd.columns import CATEGORIES, CHOICES, COLUMNS, NAMES, Known
from ids_appliance.train.kdd.judging import encode, fit_all, judge_sample, split
from ids_appliance.train.kdd.records import LONGEST, read_sample

NORMAL = "0,tcp,http,SF,181,5450" + ",0" * 35
MIX = {"normal": 300, "smurf": 120, "neptune": 60, "satan": 18, "spy": 2}


def record(rng, label, *, dot=".", more=""):
    attack = label != "normal"
    numbers = [rng.randrange(9) for _ in range(len(NAMES))]
    fields = [str(n) for n in numbers]
    fields[1] = rng.choice(["tcp", "udp"]) if not attack else "icmp"
    fields[2], fields[3] = rng.choice(["http", "smtp"]), "S0" if attack else "SF"
    fields[22] = str(rng.randrange(200, 511) if attack else rng.randrange(30))
    return ",".join([*fields, label + dot]) + more


@pytest.fixture(scope="module")
def lines():
    rng = random.Random(1)
    out = [record(rng, label) for label, n in MIX.items() for _ in range(n)]
    rng.shuffle(out)
    return out


def write(path, lines, *, packed=False):
    content = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


def test_columns_are_complete_and_in_their_groups():
    assert len(NAMES) == 41 and NAMES[1:4] == ("protocol_type", "service", "flag")
    never = {name for name, known in COLUMNS.items() if known is Known.NEVER}
    assert len(never) == 13 and {"hot", "logged_in", "root_shell"} <= never
    assert {name: len(chosen) for name, chosen in CHOICES.items()} == {
        "all": 41,
        "gateway": 28,
        "at once": 22,
    }
    assert CATEGORIES["smurf"] == "dos" and CATEGORIES["nmap"] == "probe"


@pytest.mark.parametrize("packed", [False, True])
def test_a_sample_is_in_proportion_and_misses_no_label(tmp_path, lines, packed):
    sample = read_sample(write(tmp_path / "kdd", lines, packed=packed), 100, seed=3)
    found = dict(zip(*np.unique(sample.labels, return_counts=True), strict=True))
    assert found == {"normal": 60, "smurf": 24, "neptune": 12, "satan": 3, "spy": 1}
    assert sample.records == 500 and sample.wrong == 0 and not sample.damage
    again = read_sample(tmp_path / "kdd", 100, seed=3)
    assert again.numbers.tobytes() == sample.numbers.tobytes()
    other = read_sample(tmp_path / "kdd", 100, seed=4)
    assert other.numbers.tobytes() != sample.numbers.tobytes()
    assert len(read_sample(tmp_path / "kdd", 10_000).labels) == 500


def test_nsl_kdd_has_one_column_more_and_no_dots(tmp_path, lines):
    nsl = [line[:-1] + ",20" for line in lines]
    ours = read_sample(write(tmp_path / "nsl", nsl), 200)
    theirs = read_sample(write(tmp_path / "kdd", lines), 200)
    assert ours.labels.tolist() == theirs.labels.tolist()
    assert ours.numbers.tobytes() == theirs.numbers.tobytes()


def test_damage_is_counted_and_named(tmp_path, lines):
    bad = [*lines, "", "not,a,record", "x" * 3 * LONGEST, "nan" + NORMAL[1:] + ",normal."]
    bad.append("one" + NORMAL[1:] + ",normal.")
    sample = read_sample(write(tmp_path / "kdd", bad), 10_000)
    assert len(sample.labels) == 500 and sample.wrong == 1 + 3 + 2
    whole = gzip.compress(("\n".join(lines) + "\n").encode())
    (tmp_path / "cut.gz").write_bytes(whole[: len(whole) // 2])
    cut = read_sample(tmp_path / "cut.gz", 10_000)
    assert 100 < len(cut.labels) < 500 and "damaged" in cut.damage
    (tmp_path / "none").write_text("hello\n")
    with pytest.raises(LabelError, match="holds no record"):
        read_sample(tmp_path / "none", 10)
    with pytest.raises(LabelError, match="cannot read"):
        read_sample(tmp_path / "nothing", 10)


def test_the_split_takes_three_tenths_of_each_label(tmp_path, lines):
    sample = read_sample(write(tmp_path / "kdd", lines), 10_000)
    train, test = split(sample.labels, 0)
    assert sorted([*train, *test]) == list(range(500))
    found = dict(zip(*np.unique(sample.labels[test], return_counts=True), strict=True))
    assert found == {"normal": 90, "smurf": 36, "neptune": 18, "satan": 5, "spy": 1}
    assert (split(sample.labels, 0)[1] == test).all()
    assert (split(sample.labels, 1)[1] != test).any()


def test_symbols_are_learnt_from_training_alone(tmp_path, lines):
    sample = read_sample(write(tmp_path / "kdd", lines), 10_000)
    normal = np.flatnonzero(sample.labels == "normal")
    rows = encode(sample, CHOICES["all"], normal)
    # tcp, udp; http, smtp; SF
    assert rows.shape == (500, 38 + 5)
    attacks = sample.labels != "normal"
    assert (rows[attacks][:, 38:40] == 0).all() and (rows[~attacks][:, 38:40].sum(1) == 1).all()


def test_the_report_says_it_all(tmp_path, lines):
    repeated = [*lines, *lines]
    sample = read_sample(write(tmp_path / "kdd", repeated), 10_000)
    ticks = iter(range(10**9))
    report = judge_sample(sample, seed=0, clock=lambda: float(next(ticks)), columns=["gateway"])
    assert report["trained_on"] + report["tested_on"] == 1000
    own = report["columns"]["gateway"]
    assert own["columns"] == 28 and 0 < own["fresh"] < report["tested_on"]
    assert set(own["models"]) == {"forest", "logistic", "xgboost", "lightgbm", "vote"}
    for found in own["models"].values():
        assert found["test"]["f1"] > 0.95 and 0 < found["test"]["accuracy"] <= 1
        assert found["us_a_record"]["one_at_a_time"] == 1e6
    assert set(report["unseen"]) == {"dos", "probe", "r2l"}
    assert report["unseen"]["probe"]["records"] == 11


def test_models_of_equal_records_are_equal(tmp_path, lines):
    sample = read_sample(write(tmp_path / "kdd", lines), 10_000)
    train, _ = split(sample.labels, 0)
    rows, attack = encode(sample, CHOICES["all"], train), sample.labels != "normal"
    one, two = (fit_all(rows[train], attack[train].astype(np.uint8), 5)["vote"] for _ in "ab")
    assert one.predict_each(rows).tobytes() == two.predict_each(rows).tobytes()


def test_the_command_shows_a_table_and_writes_json(tmp_path, lines):
    write(tmp_path / "kdd", [*lines, "no record"])
    call = ["kdd", str(tmp_path / "kdd"), "--records", "100", "--json", str(tmp_path / "out.json")]
    result = CliRunner().invoke(main, call)
    assert result.exit_code == 0, result.output
    assert "1 lines are no record" in result.output
    for said in ("Majority vote", "Columns: gateway (28)", "left out of training"):
        assert said in result.output
    assert max(map(len, result.output.splitlines())) <= 110
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["sampled"] == 100 and report["file"] == "kdd"
    result = CliRunner().invoke(main, ["kdd", str(tmp_path / "none")])
    assert result.exit_code == 2 and len(result.output.strip().splitlines()) == 1
