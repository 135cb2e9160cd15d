"""Ansible as the everyday tests call it: on this machine, from the playbooks' directory."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ansible.trees import ROOT

pytest.importorskip("ansible", reason="Ansible is not installed: the extra `dev` has it")

Play = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Play:
    """Run a playbook of tests/ansible/playbooks on hosts that are this machine."""
    place = tmp_path_factory.mktemp("ansible")

    def run(
        playbook: str, hosts: dict[str, dict[str, Any]], *roles: str, **variables: Any
    ) -> subprocess.CompletedProcess[str]:
        inventory = place / "hosts.json"
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        group = {name: {**local, **values} for name, values in hosts.items()}
        of_roles = {k: v for role in roles for k, v in settings_of(role).items()}
        gateways = {"gateways": {"hosts": group, "vars": of_roles}}
        inventory.write_text(json.dumps({"all": {"children": gateways}}))
        return subprocess.run(
            [sys.executable, "-m", "ansible", "playbook", str(playbook_path(playbook))]
            + ["--inventory", str(inventory), "--forks", "2"]
            + ["--extra-vars", json.dumps({**group_variables(), **variables})],
            cwd=ROOT / "ansible",
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible" / "ansible.cfg"),
                "ANSIBLE_LOCAL_TEMP": str(place / "local"),
                "ANSIBLE_REMOTE_TEMP": str(place / "remote"),
                "ANSIBLE_NOCOLOR": "true",
                "LC_ALL": "C.UTF-8",
            },
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def playbook_path(name: str) -> Path:
    return Path(__file__).parent / "playbooks" / name


def settings_of(role: str) -> dict[str, Any]:
    """Return a role's own variables, for a play that renders its templates without running it."""
    found: dict[str, Any] = {}
    for part in ("defaults", "vars"):
        path = ROOT / "ansible" / "roles" / role / part / "main.yml"
        found |= yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def group_variables() -> dict[str, Any]:
    """What group_vars/all.yml says, which a playbook elsewhere does not find by itself."""
    return {"appliance_source": str(ROOT)}
