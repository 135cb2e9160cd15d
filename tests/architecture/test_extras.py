"""A gateway starts without what only training needs, a node without what only a gateway needs."""

import subprocess
import sys
import tomllib

import pytest

from ids_appliance.cli import COMMANDS, EXTRAS
from tests.architecture.sources import PYTHON_FILES, ROOT, module_of

MODULES = {"sklearn", "scipy", "joblib", "tqdm", "matplotlib", "psutil", "netfilterqueue"} | {
    "pyarrow",
    "distributed",
    "dask",
    "xgboost",
    "lightgbm",
    "threadpoolctl",
    "os_ken",
}
NEED_MONITOR = {"ids_appliance.monitor.controller"}
NEED_TRAIN = {
    f"ids_appliance.cli.{stem}" for stem in ("evaluate", "extract", "kdd", "learning", "train")
} | {
    f"ids_appliance.train.{stem}"
    for stem in (
        "agreement",
        "card",
        "cluster",
        "corpus",
        "draw",
        "evaluate",
        "families.making",
        "fit",
        "kdd.judging",
        "parts",
        "scale",
        "study.audit",
        "study.learning",
        "study.scores",
        "study.splits",
        "study.study",
        "tables",
        "training",
    )
}
"""Modules that need an extra; all others have to import without any."""

HIDE = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {extras!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
{code}
"""


def without_extras(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HIDE.format(extras=MODULES, code=code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_everything_but_training_imports_without_extras() -> None:
    modules = [
        module
        for module in map(module_of, PYTHON_FILES)
        # Importing __main__ runs the command.
        if not module.endswith(".__main__") and module not in NEED_TRAIN | NEED_MONITOR
    ]
    code = f"import importlib\nfor m in {modules!r}: importlib.import_module(m)"
    done = without_extras(code)
    assert done.returncode == 0, done.stderr


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    call = (
        f"from ids_appliance.cli import main\nmain({list(arguments)!r}, prog_name='ids-appliance')"
    )
    return without_extras(call)


def test_the_list_of_commands_shows_without_extras() -> None:
    shown = run_command("--help")
    assert shown.returncode == 0, shown.stderr
    assert all(which in shown.stdout for which in COMMANDS)


@pytest.mark.parametrize("which", sorted(COMMANDS))
def test_a_command_works_without_extras_or_names_the_one_it_needs(which: str) -> None:
    shown = run_command(which, "--help")
    if which in EXTRAS:
        assert shown.returncode == 2
        assert shown.stderr.count("\n") == 1 and f"ids-appliance[{EXTRAS[which]}]" in shown.stderr
    else:
        assert shown.returncode == 0, shown.stderr


def test_extras_are_declared_and_not_required() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    required = {line.split(">")[0].split("[")[0].lower() for line in project["dependencies"]}
    assert required == {"click", "numpy", "cryptography", "msgspec", "prometheus-client"}
    assert "netfilterqueue" in " ".join(project["optional-dependencies"]["gateway"]).lower()
    assert "scikit-learn" in " ".join(project["optional-dependencies"]["train"])
