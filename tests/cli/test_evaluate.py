"""`ids-appliance evaluate`: small captures in, the whole report out, twice the same."""

import json
import shutil

import pytest
from click.testing import CliRunner

from ids_appliance.cli import main
from tests.train.captures import make_data

FEW = ["--trees", "4", "--leaves", "8", "--folds", "2", "--jobs", "1", "--features", "top20"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("captures")
    make_data(root, n=40)
    return root


def run(*arguments):
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


def test_the_report_has_every_part_and_a_second_run_gives_the_same(data, tmp_path):
    first = run("--data", data, "--out", tmp_path / "out", *FEW)
    assert first.exit_code == 0, first.output
    made = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}
    assert {"evaluation.json", "evaluation.md", "evaluation.html"} <= made.keys()
    result = json.loads(made["evaluation.json"])
    assert list(result["splits"]) == ["random", "capture", "origin"]
    assert result["packets"]["origins"] == 4 and result["splits"]["origin"]["folds"] == 4
    assert len(result["features"]) == 60 and set(result["ablations"]) >= {"ports", "ttl"}
    assert [row["file"] for row in result["captures"]] != []
    assert result["summary"]["runs"]["appliance"]["families"]["DoS"]["culprits"] == 4
    page = made["evaluation.md"].decode()
    for part in ("whole origins left out", "ordinary senders accused", "## Shortcuts", "without"):
        assert part in page
    assert b"<table>" in made["evaluation.html"]
    # matplotlib is there for developers, and the page has its pictures in it.
    assert made["evaluation.html"].count(b"data:image/png;base64,") == 4
    # Learnt and replayed again nothing is, or the rows would say another time that it took.
    again = run("--data", data, "--out", tmp_path / "out", *FEW, "--no-audit", "--no-ablations")
    assert again.exit_code == 0, again.output
    same = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    del result["features"], result["ablations"]
    assert same == result


def test_only_what_is_asked_for(data, tmp_path):
    asked = ["--split", "origin", "--no-replay", "--no-ablations", "--no-audit"]
    made = run("--data", data, "--out", tmp_path / "out", *FEW, *asked)
    assert made.exit_code == 0, made.output
    result = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert list(result["splits"]) == ["origin"]
    assert not {"captures", "features", "ablations"} & result.keys()


def test_a_folder_of_ones_own_is_read_and_one_origin_alone_is_one_line(data, tmp_path):
    shutil.copytree(data, tmp_path / "own")
    (tmp_path / "own/labels.json").unlink()
    names = sorted(path.name for path in (tmp_path / "own").rglob("*.pcap*"))
    files = f'[files]\n"*{names[0]}" = "malicious DoS"\n"*" = "benign"\n'
    (tmp_path / "own/captures.toml").write_text(files)
    asked = [*FEW, "--split", "origin", "--no-replay", "--no-ablations", "--no-audit"]
    made = run("--data", tmp_path / "own", "--out", tmp_path / "out", *asked)
    assert made.exit_code == 2 and isinstance(made.exception, SystemExit)
    assert "add captures of other origins, or leave out less" in made.output


def test_no_directory_is_one_line(tmp_path):
    made = run("--data", tmp_path / "nowhere", "--out", tmp_path / "out")
    assert made.exit_code == 2 and "is not a directory" in made.output
    assert not (tmp_path / "out").exists()
