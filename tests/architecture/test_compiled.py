"""Compiled modules: their stubs are true, and none may be missing unnoticed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.sources import COMPILED, PACKAGE, ROOT

NOT_AT_RUNTIME = r"""
ids_appliance\._\w+(\..*)?\.__(reduce|setstate)_cython__
ids_appliance\._\w+\.__test__
# PEP 688: the buffer protocol has a name in Python only from 3.12 on.
ids_appliance\._\w+\.\w+\.__buffer__
# A type alias for the stub's readers.
ids_appliance\._wire\.Message
# Cython builds these in __cinit__; a stub that says __init__ reads the same to a caller.
ids_appliance\._\w+\.\w+\.__(init|new)__
"""

# An editable installation finds modules of ours wherever the package was imported from.
NOT_THE_INSTALLED_ONE = """
import sys
sys.meta_path = [finder for finder in sys.meta_path if "__editable__" not in repr(finder)]
"""


def test_every_compiled_module_has_a_stub() -> None:
    assert sorted(path.stem for path in PACKAGE.glob("_*.pyi")) == [f"_{s}" for s in COMPILED]


def test_stubs_are_true(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.write_text(NOT_AT_RUNTIME, encoding="utf-8")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "--concise", "--ignore-unused-allowlist"]
        + ["--ignore-disjoint-bases", "--allowlist", str(allowed)]
        + [f"ids_appliance._{stem}" for stem in COMPILED],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("hidden", COMPILED)
def test_a_missing_compiled_module_is_a_clear_error(hidden: str, tmp_path: Path) -> None:
    copy = tmp_path / "ids_appliance"
    copy.mkdir()
    for path in PACKAGE.iterdir():
        if not path.name.startswith(f"_{hidden}."):
            (copy / path.name).symlink_to(path)
    started = subprocess.run(
        [sys.executable, "-c", NOT_THE_INSTALLED_ONE + "import ids_appliance"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.returncode == 1
    last = started.stderr.strip().splitlines()[-1]
    assert f"ids_appliance._{hidden}" in last and "make build" in last
