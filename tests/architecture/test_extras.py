"""A gateway starts without what only training needs, a node without what only a gateway needs."""

import json
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
    "markdown_it",
    "streamlit",
    "altair",
    "pandas",
    "paho",
}
NEED_MONITOR = {"ids_appliance.monitor.controller"}
NEED_BENCH = {
    "ids_appliance.cli.bench",
    *(
        f"ids_appliance.bench.{stem}"
        for stem in ("accepting", "literal", "literal_forest", "literal_node", "trial", "usage")
    ),
}
NEED_DASHBOARD = {
    f"ids_appliance.dashboard.{stem}" for stem in ("blocked", "charts", "drills", "page", "panels")
}
NEED_TRAIN = {
    f"ids_appliance.cli.{stem}"
    for stem in ("evaluate", "extract", "kdd", "learning", "retrain", "train")
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
        "page",
        "parts",
        "retraining",
        "scale",
        "study.audit",
        "study.learning",
        "study.protocol",
        "study.report",
        "study.scores",
        "study.splits",
        "study.study",
        "tables",
        "training",
    )
}
NEED_NOTICES = {"ids_appliance.telemetry.notice_mqtt"}
ELSEWHERE = NEED_MONITOR | NEED_BENCH | NEED_DASHBOARD | NEED_NOTICES
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
        if not module.endswith(".__main__") and module not in NEED_TRAIN | ELSEWHERE
    ]
    code = f"import importlib\nfor m in {modules!r}: importlib.import_module(m)"
    done = without_extras(code)
    assert done.returncode == 0, done.stderr


Shown = dict[str, tuple[int, str, str]]

ASK = """
import json
from click.testing import CliRunner
from ids_appliance.cli import main

shown = {}
for which in %r:
    arguments = [which, "--help"] if which else ["--help"]
    result = CliRunner().invoke(main, arguments, prog_name="ids-appliance")
    shown[which] = result.exit_code, result.stdout, result.stderr
print(json.dumps(shown))
"""


@pytest.fixture(scope="module")
def shown() -> Shown:
    """Command -> exit code, output and errors of its --help; "" is the main help.

    All in one process: a start of Python each would take half a minute."""
    done = without_extras(ASK % ["", *sorted(COMMANDS)])
    assert done.returncode == 0, done.stderr
    return {which: tuple(said) for which, said in json.loads(done.stdout).items()}


def test_the_list_of_commands_shows_without_extras(shown: Shown) -> None:
    code, out, err = shown[""]
    assert code == 0, err
    assert all(which in out for which in COMMANDS)


@pytest.mark.parametrize("which", sorted(COMMANDS))
def test_a_command_works_without_extras_or_names_the_one_it_needs(which: str, shown: Shown) -> None:
    code, _, err = shown[which]
    if which in EXTRAS:
        assert code == 2
        assert err.count("\n") == 1 and f"ids-appliance[{EXTRAS[which]}]" in err
    else:
        assert code == 0, err


def test_extras_are_declared_and_not_required() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    required = {line.split(">")[0].split("[")[0].lower() for line in project["dependencies"]}
    assert required == {"click", "numpy", "cryptography", "msgspec", "prometheus-client"}
    assert "netfilterqueue" in " ".join(project["optional-dependencies"]["gateway"]).lower()
    assert "scikit-learn" in " ".join(project["optional-dependencies"]["train"])
