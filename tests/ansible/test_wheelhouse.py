"""The controller's wheels: one build serves every host of a kind, whatever its extras."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.ansible.trees import ROLES

WHEEL = "ids_appliance-1.0-cp311-cp311-linux_x86_64.whl"


@pytest.fixture(scope="module")
def wheelhouse() -> ModuleType:
    path = ROLES / "appliance/files/wheelhouse.py"
    spec = importlib.util.spec_from_file_location("wheelhouse", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def house(cache: Path, name: str, *, built: bool = False) -> Path:
    made = cache / name
    made.mkdir()
    if built:
        (made / WHEEL).write_text(name)
    return made


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        ("1.0-aa-cp3.11-x86_64", True),
        ("1.0-aa-cp3.11-x86_64+monitor", True),
        ("1.0-aa-cp3.13-x86_64", False),
        ("1.0-aa-cp3.11-aarch64", False),
        ("1.0-ab-cp3.11-x86_64", False),
        ("1.0-aa-cp3.11-x86_64_v3", False),
    ],
)
def test_a_wheel_of_the_same_kind_is_taken(
    wheelhouse: ModuleType, tmp_path: Path, there: str, taken: bool
) -> None:
    house(tmp_path, there, built=True)
    mine = house(tmp_path, "1.0-aa-cp3.11-x86_64+dashboard")
    assert wheelhouse.borrowed(mine, to=mine) is taken
    assert [path.name for path in wheelhouse.found(mine)] == [WHEEL] * taken
