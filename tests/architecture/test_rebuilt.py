"""A compiled module built anew under those who use it: each has the old one or the new, whole."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT

NAME = "paced"
"""Any of MODULES in setup.py: here a module of one line."""

# What the build does to a module in its place, by PEP 578's events.
WATCHED = """
import os, runpy, sys
def seen(event, arguments):
    if event in ("open", "os.remove", "os.rename", "os.truncate"):
        place = 1 if event == "os.rename" else 0
        if os.path.dirname(os.path.relpath(str(arguments[place]))) == "ids_appliance":
            writes = event != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if writes and os.path.basename(str(arguments[place])) in os.listdir("ids_appliance"):
                print(event, os.path.basename(str(arguments[place])), flush=True)
sys.addaudithook(seen)
sys.argv = ["setup.py", "-q", "build_ext", "--inplace"]
runpy.run_path("setup.py", run_name="__main__")
"""
USER = f"""
import sys
from ids_appliance import _{NAME}
for line in sys.stdin:
    print(_{NAME}.answer(), flush=True)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A project of one module, which our setup.py builds."""
    (tmp_path / "setup.py").write_text((ROOT / "setup.py").read_text())
    for folder in ("ext", "ids_appliance"):
        (tmp_path / folder).mkdir()
    (tmp_path / "ids_appliance" / "__init__.py").touch()
    return tmp_path


def built(place: Path, answer: int) -> list[str]:
    """Build the module; return what was done to the one that was there."""
    (place / "ext" / f"{NAME}.pyx").write_text(f"def answer():\n    return {answer}\n")
    done = subprocess.run(
        [sys.executable, "-c", WATCHED], cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (place / "ids_appliance").glob("*.so")}
    assert len(names) == 1, "something is left beside it"
    return [line for line in done.stdout.splitlines() if line.split()[-1] in names]


def user(place: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", USER]
    return subprocess.Popen(
        words, cwd=place, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def asked(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def test_who_has_the_old_module_keeps_it(place: Path) -> None:
    built(place, 1)
    with user(place) as before:
        assert asked(before) == "1"
        (done,) = built(place, 2)
        assert done.startswith("os.rename "), "it was not replaced at once"
        assert asked(before) == "1"
        with user(place) as after:
            assert asked(after) == "2"
