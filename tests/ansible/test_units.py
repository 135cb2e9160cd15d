"""The role gateway: what a unit needs is there before systemd is asked about the unit."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.ansible.trees import ROOT

ROLES = ROOT / "ansible" / "roles"
ROLE = ROLES / "gateway"
PROGRAM = re.compile(r"^Exec\w+=\{\{ gateway_libexec \}\}/(\w+)", re.MULTILINE)


def tasks(file: str) -> Iterator[dict[str, Any]]:
    """Yield a role's tasks in the order in which they run."""
    for task in yaml.safe_load((ROLE / "tasks" / file).read_text("utf-8")):
        if further := task.get("ansible.builtin.include_tasks"):
            yield from tasks(further)
        else:
            yield task


def test_a_program_is_installed_before_its_unit_is_verified() -> None:
    """`systemd-analyze verify` refuses a unit whose program is not there."""
    installed: set[str] = set()
    verified = []
    for task in tasks("present.yml"):
        if copied := task.get("ansible.builtin.copy"):
            names = task.get("loop", [])
            installed |= {str(copied.get("src", "")), *map(str, names)}
        made = task.get("ansible.builtin.template", {})
        if "systemd-analyze" in made.get("validate", ""):
            text = (ROLE / "templates" / made["src"]).read_text("utf-8")
            needed = set(PROGRAM.findall(text))
            assert needed <= installed, (made["src"], needed - installed)
            verified.append(made["src"])
    assert any("clock" in src for src in verified)


def test_who_reads_a_secret_at_its_start_is_started_anew() -> None:
    (written,) = (task for task in tasks("secrets.yml") if task.get("no_log"))
    assert written["notify"] == "Start the gateway anew"


def test_zeek_follows_the_configuration_that_it_counts_by() -> None:
    (written,) = (t for t in tasks("config.yml") if "ansible.builtin.template" in t)
    text = (ROLES / "zeek" / "tasks" / "configure.yml").read_text("utf-8")
    followed = [t for t in yaml.safe_load(text) if written["register"] in str(t.get("when"))]
    assert [task["notify"] for task in followed] == ["Start Zeek anew"]


def test_a_governor_that_is_not_asked_for_any_more_goes() -> None:
    gone = [t for t in tasks("present.yml") if "clock.service" in str(t) and "absent" in str(t)]
    assert len(gone) == 1 and gone[0]["when"] == "gateway_governor | length == 0"
