"""Sections of the reproduction's page: published beside measured, each replaced alone."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ids_appliance.bench import reproduce
from ids_appliance.cli import main

ROOT = Path(__file__).resolve().parents[2]


def test_sections_stand_in_order_and_are_replaced_alone():
    page = reproduce.replaced("", "s3", "## three\n")
    page = reproduce.replaced(page, "s1-table2", "## one")
    page = reproduce.replaced(page, "s2", "## two\n\n| a |\n")
    assert page.index("## one") < page.index("## two") < page.index("## three")
    again = reproduce.replaced(page, "s2", "## other")
    assert "## two" not in again and "## one" in again and "## three" in again
    assert reproduce.replaced(again, "s2", "## other") == again


def test_accuracies_stand_beside_the_published():
    card = json.loads((ROOT / "models" / "iot-top20" / "card.json").read_text())
    section = reproduce.table2({"all 60": card, "top 20": card}, command="train")
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    assert "| published, top 20 | 0.992 | 0.992 | 0.992 | 0.992 |" in rows
    accuracy = card["metrics"]["random"]["accuracy"]
    measured = [row for row in rows if row.startswith("| measured, top 20, random")]
    assert len(measured) == 1 and f"| {accuracy:.3f} |" in measured[0]


def test_every_model_of_kdd_has_a_row():
    report = json.loads((ROOT / "docs" / "benchmarks" / "kdd99.json").read_text())
    section = reproduce.kdd(report, command="kdd", inline="as the campaign says\n")
    for name, own in report["columns"].items():
        for family in own["models"]:
            assert f"| {family}, columns: {name} | " in section
    assert section.endswith("### Inline in the lab\n\nas the campaign says")


def test_the_monitors_figures_are_told_flat():
    section = reproduce.monitor(
        {"up": [0.5, 0.25], "with our controller": {"LLDP frames": 3}}, command="x"
    )
    assert "| up | 0.5, 0.25 |" in section and "| with our controller: LLDP frames | 3 |" in section


@pytest.mark.parametrize("name", ["s1-table2", "s2"])
def test_without_data_it_says_which(name, tmp_path):
    done = CliRunner().invoke(main, ["reproduce", name, "--output", str(tmp_path / "r.md")])
    assert done.exit_code == 2 and "--data" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "r.md").exists()


def test_a_page_nowhere_is_refused_before_anything_is_run(tmp_path):
    done = CliRunner().invoke(main, ["reproduce", "s3", "--output", str(tmp_path / "no" / "r.md")])
    assert done.exit_code == 2 and "--output" in done.stderr


@pytest.mark.nightly
@pytest.mark.data
def test_kdd_twice_is_the_same(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)  # delays in a lab never are
    words = [
        "reproduce",
        "s2",
        "--quick",
        "--data",
        str(data_dir / "kdd99" / "kddcup.data_10_percent.gz"),
    ]
    pages = []
    for name in ("a.md", "b.md"):
        done = CliRunner().invoke(main, [*words, "--output", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1] and b"needs root and a clone" in pages[0]
