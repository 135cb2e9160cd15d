"""Contestants' names in, what each made of one problem out; each in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.budgets.contest import MISSING

ROOT = Path(__file__).resolve().parents[3]
INSTALLED = ROOT / "build" / "bench-others" / "bin" / "python"
"""Where `make budgets` installs them."""
LIMIT_S = 200.0


@dataclass(frozen=True, slots=True)
class Made:
    """What a contestant has said, and what it has computed."""

    said: dict[str, Any]
    results: dict[str, Any]


class Others:
    """Runs contestants: ours under our interpreter, the others under theirs.

    python: the interpreter of the others; None: INSTALLED, or ours where that is not there.
    """

    def __init__(self, scratch: Path, python: Path | None) -> None:
        self._scratch = scratch
        self._python = python or (INSTALLED if INSTALLED.is_file() else Path(sys.executable))
        self.left_out: dict[str, str] = {}
        """Name -> why."""

    def problem(self, name: str, **arrays: Any) -> Path:
        """Write a problem; return its file."""
        path = self._scratch / f"{name}.npz"
        np.savez(path, **arrays)
        return path

    def run(self, contest: str, name: str, problem: Path, *, ours: bool = False) -> Made | None:
        """Let one solve it; None where it is not installed, or fails: `left_out` has why."""
        results = self._scratch / f"{contest}-{name}.npz"
        python = Path(sys.executable) if ours else self._python
        words = [python, "-m", "tests.bench.budgets.contest", contest, name, problem, results]
        done = subprocess.run(
            [str(word) for word in words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        if done.returncode:
            why = last if done.returncode == MISSING else f"ended with {done.returncode}: {last}"
            self.left_out[name] = why
            return None
        with np.load(results, allow_pickle=False) as loaded:
            found = {key: loaded[key] for key in loaded.files}
        return Made(json.loads(done.stdout.splitlines()[-1]), found)


def told(names: Mapping[str, str]) -> str:
    """Return who was left out, in a line; "" where nobody was."""
    return "; ".join(names.values())
