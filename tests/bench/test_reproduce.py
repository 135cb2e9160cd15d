"""Sections of the reproduction's page: published beside measured, each replaced alone."""

import json
import os
import signal
import subprocess
import sys
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
    assert "origins alike in their class: the paper counts every packet alike" in section
    card["options"]["weight"] = "packet"
    assert "alike" not in reproduce.table2({"all 60": card, "top 20": card}, command="train")


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


def table3(run: Path, page: Path):
    return CliRunner().invoke(
        main, ["reproduce", "s1-table3", "--from", str(run), "--output", str(page)]
    )


def test_a_benchmark_made_before_is_put_beside_the_published(tmp_path):
    run = ROOT / "docs" / "benchmarks" / "run"
    told = json.loads((run / "bench.json").read_text())
    pages = [tmp_path / "a.md", tmp_path / "b.md"]
    for page in pages:
        done = table3(run, page)
        assert done.exit_code == 0, done.output
    text = pages[0].read_text()
    assert text == pages[1].read_text() and told["command"] in text
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")]
    head, kpps = (
        [cell.strip() for cell in rows[0]],
        {row[0].strip(): row[1].strip() for row in rows},
    )
    assert head[2:] == ["CPU at 15", "memory at 15", "CPU at 19.5", "memory at 19.5"]
    assert kpps["published, gateway-only"] == "15.0" and kpps["published, offloaded"] == "19.5"
    for mode in {one["mode"] for one in told["found"]} - {"bare", "tapped"}:
        assert any(character.isdigit() for character in kpps[f"measured, {mode}"])


def test_what_a_benchmark_lacks_is_said(tmp_path):
    told = json.loads((ROOT / "docs" / "benchmarks" / "run" / "bench.json").read_text())
    told["found"] = [one for one in told["found"] if one["mode"] != "offloaded"]
    told["interrupted"] = True
    section = reproduce.table3(told)
    assert "Not measured in this run: offloaded." in section and "interrupted" in section
    told["mixes"] = ["udp-flood"]
    (tmp_path / "bench.json").write_text(json.dumps(told))
    done = table3(tmp_path, tmp_path / "r.md")
    assert done.exit_code == 2 and "syn-single" in done.stderr


def test_rounds_that_were_not_confirmed_are_not_told_as_if_they_had_been():
    told = json.loads((ROOT / "docs" / "benchmarks" / "run" / "bench.json").read_text())
    told["thoroughness"] |= {"rounds": 10, "confirmed_rounds": 1, "confirmations": 3}
    assert "3 confirmations of 60 s (rounds 1 to 1)" in reproduce.table3(told)
    told["thoroughness"] |= {"confirmed_rounds": 10}
    assert "3 confirmations of 60 s;" in reproduce.table3(told)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 99}', '{"version": 1}', "\0\xff"])
def test_no_benchmark_is_one_line_and_no_page(text, tmp_path):
    (tmp_path / "bench.json").write_text(text, encoding="latin-1")
    done = table3(tmp_path, tmp_path / "r.md")
    assert done.exit_code == 2 and done.stderr.count("\n") == 1 and "bench.json" in done.stderr
    assert not (tmp_path / "r.md").exists()


def test_only_the_benchmark_can_be_taken_from_a_folder(tmp_path):
    words = ["reproduce", "s3", "--from", str(tmp_path), "--output", str(tmp_path / "r.md")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2 and "--from" in done.stderr


HEARS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
"""Who is started in the background may have been told to hear nothing."""
TIDY = (
    HEARS
    + """
import sys, time
try:
    print("ready", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    time.sleep(1)  # longer than anybody waits who would kill it
    open(sys.argv[1], "w").write("tidied up")
"""
)


def test_after_ctrl_c_what_it_has_started_tidies_up(tmp_path):
    words = [sys.executable, "-c", TIDY, str(tmp_path / "told")]
    source = f"{HEARS}from ids_appliance.cli.reproduce import finished; finished({words!r})"
    with subprocess.Popen(
        [sys.executable, "-c", source],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as running:
        assert running.stdout is not None and running.stdout.readline() == b"ready\n"
        os.killpg(running.pid, signal.SIGINT)
        running.communicate(timeout=60)
    assert running.returncode != 0
    assert (tmp_path / "told").read_text() == "tidied up"


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
