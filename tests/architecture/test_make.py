"""What `make` does where its stamps say that everything is installed."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT


@pytest.mark.parametrize(("target", "goal"), [("demo", "live"), ("test", "test")])
def test_who_is_root_later_gets_what_only_root_needs(
    target: str, goal: str, tmp_path: Path
) -> None:
    """`make demo` as anybody, then `sudo make demo`: the attackers' tools are still to come."""
    if shutil.which("make") is None:
        pytest.skip("no make: apt-get install make")
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "scripts").mkdir()
    for name in ("scripts/prepare", "pyproject.toml", "setup.py"):
        (tmp_path / name).touch()
    (tmp_path / ".venv").mkdir()
    for stamp in ("venv", "needs", "build", "run", "dev"):
        (tmp_path / ".venv" / f"stamp-{stamp}").touch()
    words = ["make", "--dry-run", "--no-print-directory", target, "PYTHON=python3"]
    said = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "pip" not in said, said
    lines = [line.removeprefix("@") for line in said.splitlines()]
    assert f"scripts/prepare python3 {goal}" in lines, said
