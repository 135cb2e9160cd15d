"""The playbooks' own style: ansible-lint's production profile; roles say what they take."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.ansible.trees import ROOT

PLAYBOOKS = ROOT / "ansible"
ROLES = sorted(path.name for path in (PLAYBOOKS / "roles").iterdir() if (path / "meta").is_dir())


def read(path: Path) -> dict[str, object]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def test_playbooks_are_well_formed() -> None:
    books = ("site.yml", "rollback.yml", "authority.yml", "bench.yml")
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "--syntax-check", *books],
        cwd=PLAYBOOKS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.nightly
def test_ansible_lint_finds_nothing() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-lint")), "--nocolor", "-q"],
        cwd=PLAYBOOKS,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("role", ROLES)
def test_a_role_describes_every_variable_that_it_takes(role: str) -> None:
    specs = read(PLAYBOOKS / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]
    defaults = read(PLAYBOOKS / "roles" / role / "defaults" / "main.yml")
    for entry, spec in specs.items():
        required = {name for name, o in spec["options"].items() if o.get("required")}
        assert set(defaults) | required == set(spec["options"]), (role, entry)


def test_nothing_is_needed_from_galaxy() -> None:
    for path in PLAYBOOKS.rglob("*.yml"):
        for word in ("community.", "ansible.posix", "containers.podman"):
            assert word not in path.read_text(encoding="utf-8"), path
    assert not list(PLAYBOOKS.rglob("requirements.yml"))


def test_programs_of_the_roles_are_shell_or_python() -> None:
    for path in (PLAYBOOKS / "roles").glob("*/files/*"):
        if path.is_file() and path.suffix == "":
            assert path.read_text(encoding="utf-8").startswith("#!/bin/sh\n"), path
            subprocess.run(["sh", "-n", str(path)], check=True)
