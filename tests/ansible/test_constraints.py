"""Every package that a role installs has its exact version, for each Python that it may meet."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.ansible.trees import ROOT

ROLE = ROOT / "ansible" / "roles" / "appliance"
PYTHONS = yaml.safe_load((ROLE / "defaults/main.yml").read_text("utf-8"))["appliance_pythons"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def pinned(python: str) -> dict[str, str]:
    """Return name -> version of a file of constraints."""
    lines = (ROLE / "files/constraints" / f"{python}.txt").read_text("utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {str(canonicalize_name(name)): version for name, version in pairs}


def extras() -> set[str]:
    """Return the extras that the role installs anywhere."""
    text = yaml.safe_load((ROLE / "defaults/main.yml").read_text("utf-8"))["appliance_extras"]
    return set(re.findall(r"ternary\(\['(\w+)'\]", text))


def needed(start: list[str], python: str) -> set[str]:
    """Return the names of everything that these need, as far as what is installed here tells."""
    environment = default_environment() | {
        "python_version": python,
        "python_full_version": f"{python}.0",
    }
    found: set[str] = set()
    todo = [(Requirement(text), "") for text in start]
    while todo:
        one, extra = todo.pop()
        if one.marker is not None and not one.marker.evaluate({**environment, "extra": extra}):
            continue
        name = str(canonicalize_name(one.name))
        if name in found:
            continue
        found.add(name)
        try:
            further = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        todo += [(Requirement(text), e) for text in further for e in (one.extras or {""})]
    return found


@pytest.mark.parametrize("python", PYTHONS)
def test_everything_that_is_installed_is_pinned(python: str) -> None:
    start = list(PROJECT["dependencies"])
    assert (
        {"monitor", "dashboard", "notices", "gateway"}
        == extras()
        <= set(PROJECT["optional-dependencies"])
    )
    for extra in sorted(extras()):
        start += PROJECT["optional-dependencies"][extra]
    wanted = needed(start, python)
    assert {"numpy", "os-ken"} <= wanted
    assert wanted - set(pinned(python)) == set()


def test_there_is_a_file_for_each_python_and_for_no_other() -> None:
    there = {Path(path).stem for path in (ROLE / "files/constraints").iterdir()}
    assert there == set(PYTHONS)


@pytest.mark.parametrize("python", PYTHONS)
def test_the_pins_are_what_the_package_asks_for(python: str) -> None:
    pins = pinned(python)
    asked = list(PROJECT["dependencies"])
    for extra in extras():
        asked += PROJECT["optional-dependencies"][extra]
    for one in map(Requirement, asked):
        assert pins[str(canonicalize_name(one.name))] in one.specifier, one
