"""Who may import whom: the layers of ARCHITECTURE.md, read from the imports themselves."""

import ast
import re
from pathlib import Path

import pytest

from tests.architecture.sources import COMPILED, EXT, PYTHON_FILES, module_of, name, tree

FOUNDATION = {"types", "schema", "errors"}
STAGES = {"capture", "classify", "trigger", "policy", "enforce", "telemetry"}
BELOW_TOP = {"compiled", "config", "config_file", "pipeline", "assemble"} | FOUNDATION | STAGES

ALLOWED: dict[str, set[str]] = {
    "root": {"compiled"},
    "errors": set(),
    "schema": set(),
    "types": {"schema"},
    "config": FOUNDATION,
    "config_file": FOUNDATION | {"config"},
    # A stage knows the data and the protocols, never another stage.
    **{stage: FOUNDATION | {"compiled", "config"} for stage in STAGES},
    # The pipeline knows only the protocols; which stages there are is assemble's business.
    "pipeline": FOUNDATION | {"compiled"},
    "assemble": BELOW_TOP,
    "gateway": BELOW_TOP | {"root"},
    "monitor": BELOW_TOP,
    # What a model is worth shows when the whole appliance is replayed with it.
    "train": BELOW_TOP | {"root", "gateway"},
    "lab": BELOW_TOP | {"root", "gateway", "monitor"},
    "bench": BELOW_TOP | {"root", "gateway", "lab", "train"},
    "drill": BELOW_TOP | {"root", "gateway", "lab"},
    "dashboard": BELOW_TOP | {"root", "gateway", "drill"},
    "cli": BELOW_TOP
    | {"root", "gateway", "monitor", "train", "lab", "bench", "dashboard", "drill"},
}
"""Area -> areas it may import. A new area is placed here, on purpose, or the test fails."""


def area(module: str) -> str:
    """Return the area of a dotted module name of ours."""
    parts = module.split(".")
    if len(parts) == 1:
        return "root"
    if parts[1] == "__main__":
        return "cli"
    return "compiled" if parts[1].startswith("_") else parts[1]


def imports(source: ast.AST, module: str) -> set[str]:
    """Return every module of ours that a file imports, wherever the import stands."""
    found = set()
    package = module.split(".")[:-1]
    for node in ast.walk(source):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            stem = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*stem, *([node.module] if node.module else [])])
            # `from ids_appliance import errors` imports a module, not a name of the root.
            whole = [f"{origin}.{alias.name}" for alias in node.names]
            found |= set(whole) if origin == "ids_appliance" else {origin}
    return {other for other in found if other.split(".")[0] == "ids_appliance"}


def violations(source: ast.AST, module: str) -> list[str]:
    own = area(module)
    return [
        f"{module} ({own}) imports {other} ({area(other)})"
        for other in sorted(imports(source, module))
        if area(other) != own and area(other) not in ALLOWED[own] | root_names(other)
    ]


def root_names(module: str) -> set[str]:
    """Return the area of a name that the package's root itself defines, such as its version."""
    return {area(module)} if module.rpartition(".")[2] == "__version__" else set()


@pytest.mark.parametrize("path", PYTHON_FILES, ids=name)
def test_imports_keep_to_the_layers(path: Path) -> None:
    module = module_of(path)
    assert area(module) in ALLOWED, f"place {area(module)!r} in ALLOWED (and in ARCHITECTURE.md)"
    assert violations(tree(path), module) == []


@pytest.mark.parametrize("path", sorted([*EXT.glob("*.pyx"), *EXT.glob("*.pxd")]), ids=name)
def test_compiled_modules_import_nothing_of_ours(path: Path) -> None:
    found = re.findall(
        r"^\s*(?:from|c?import)\s+(?:ids_appliance|\.)[\w.]*.*$",
        path.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert found == []


def test_every_compiled_module_is_demanded_at_start() -> None:
    source = next(path for path in PYTHON_FILES if module_of(path) == "ids_appliance")
    demanded = [
        ast.literal_eval(node.value)
        for node in tree(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMPILED"
    ]
    assert [sorted(names) for names in demanded] == [[f"_{stem}" for stem in COMPILED]]


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("ids_appliance.capture.file", "from ids_appliance.classify.local import Local"),
        ("ids_appliance.capture.file", "from ..classify import local"),
        ("ids_appliance.pipeline", "import ids_appliance.capture.file"),
        ("ids_appliance.types", "from ids_appliance import errors"),
        ("ids_appliance.classify.node", "def f():\n    from ids_appliance import pipeline"),
        ("ids_appliance.train.fit", "from ids_appliance.cli import main"),
    ],
)
def test_a_forbidden_import_is_found(module: str, line: str) -> None:
    assert violations(ast.parse(line), module)


def test_allowed_imports_are_let_through() -> None:
    line = "from ids_appliance.types import Grid\nfrom .bundle import load\nimport numpy"
    assert violations(ast.parse(line), "ids_appliance.classify.local") == []
