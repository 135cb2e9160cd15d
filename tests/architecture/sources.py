"""The project's own files, as the tests of this directory look at them."""

import ast
import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ids_appliance"
EXT = ROOT / "ext"

PYTHON_FILES = sorted(PACKAGE.rglob("*.py"))
COMPILED = sorted(path.stem for path in EXT.glob("*.pyx"))


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name(path: Path) -> str:
    """Return how a test names a file: its path from the root."""
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    """Return a package file's dotted module name."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def project_files() -> list[Path]:
    """Return every file that is, or is about to be, under version control."""
    asked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if asked.returncode != 0:
        pytest.skip("not a git checkout: which files belong to the project is unknown")
    files = (ROOT / line for line in asked.stdout.decode().split("\0") if line)
    return sorted(path for path in files if path.is_file())


def project_texts() -> Iterator[tuple[Path, str]]:
    """Yield the files that are text, with their text."""
    for path in project_files():
        data = path.read_bytes()
        if b"\0" not in data:
            yield path, data.decode("utf-8")
