"""The controller's wheels: one build serves every host of a kind, whatever its extras."""

import argparse
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


def test_an_index_that_does_not_answer_is_named(
    wheelhouse: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    (tmp_path / "pins").touch()
    wanted = argparse.Namespace(constraints=tmp_path / "pins", python="3.11", machine="aarch64")
    with pytest.raises(SystemExit, match="pip download failed: .*msgspec"):
        wheelhouse.download(["msgspec"], tmp_path, wanted)


def test_what_there_is_no_wheel_of_is_left_for_the_host(
    wheelhouse: ModuleType, tmp_path: Path
) -> None:
    for name in (wheelhouse.ARCHIVE, "NetfilterQueue-1.1.0.tar.gz", "numpy-2.0-cp311.whl"):
        (tmp_path / name).touch()
    assert wheelhouse.unbuilt(tmp_path) == [wheelhouse.ARCHIVE, "NetfilterQueue-1.1.0.tar.gz"]
    (tmp_path / "netfilterqueue-1.1.0-cp311-cp311-linux_x86_64.whl").touch()
    (tmp_path / WHEEL).touch()
    assert wheelhouse.unbuilt(tmp_path) == []
