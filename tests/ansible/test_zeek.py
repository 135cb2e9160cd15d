"""The role `zeek`: what is wrong is named at once; its units as systemd reads them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
import zeekscript

from ids_appliance.config import Zeek
from ids_appliance.gateway.mirror import NAMESPACE, NEAR
from tests.ansible.conftest import Play
from tests.ansible.trees import ROOT

VARS = yaml.safe_load((ROOT / "ansible/roles/zeek/vars/main.yml").read_text("utf-8"))
WANTED = {"trigger": {"kind": "zeek"}}
GATEWAY = {"gateway_interfaces": ["lo"], "gateway_settings": WANTED}
INSTALLED = {**GATEWAY, "zeek_source": "installed", "zeek_program": sys.executable}
BAD: dict[str, dict[str, Any]] = {
    "zeek_deb": {**GATEWAY, "zeek_source": "deb"},
    "zeek_deb_sha256": {
        **GATEWAY, "zeek_source": "deb", "zeek_deb": "https://repo.example/z.deb",
        "zeek_deb_sha256": "0",
    },
    "zeek_program": {**INSTALLED, "zeek_program": "/nowhere/zeek"},
    "zeek_key_fingerprint": {**GATEWAY, "zeek_key_fingerprint": "F9FA"},
    "zeek_repository_key": {**GATEWAY, "zeek_repository": "http://127.0.0.1:9/none"},
    "Linux 5.15": {**INSTALLED, "test_kernel": "5.15.0-91-generic"},
}  # fmt: skip
GOOD = {
    "plain": {**INSTALLED, "zeek_cpus": "3"},
    "container": {**INSTALLED, "zeek_source": "container"},
    "without": {"gateway_interfaces": ["lo"], "zeek_source": "deb"},
}


def message(output: str, host: str) -> str:
    """What Ansible says a host failed with; lines may be folded."""
    text = " ".join(output.split())
    _, found, rest = text.partition(f"[{host}]: FAILED")
    assert found, text
    return rest.partition("fatal: ")[0]


def test_what_is_wrong_is_named(play: Play, tmp_path: Path) -> None:
    hosts = {f"host{n}": values for n, values in enumerate(BAD.values())}
    done = play("zeek.yml", hosts, "zeek", rendered_to=str(tmp_path))
    assert done.returncode != 0
    for host, name in zip(hosts, BAD, strict=True):
        assert name in message(done.stdout, host), (name, done.stdout)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def rendered(play: Play, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    to = tmp_path_factory.mktemp("rendered")
    done = play("zeek.yml", GOOD, "zeek", rendered_to=str(to))
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: json.loads((to / f"{name}.json").read_text("utf-8")) for name in GOOD}


@pytest.mark.parametrize("host", ["plain", "container"])
def test_systemd_reads_the_units(
    rendered: dict[str, dict[str, str]], host: str, tmp_path: Path
) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze: install systemd")
    for name, text in rendered[host].items():
        for program in (VARS["zeek_appliance"], "/usr/bin/podman"):
            text = text.replace(program, sys.executable)
        if host == "container":
            text = text.replace("/usr/local/zeek/bin/zeek", "zeek")
        (tmp_path / name).write_text(text, encoding="utf-8")
    units = [str(tmp_path / f"ids-appliance-{one}.service") for one in ("mirror", "zeek")]
    done = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False
    )
    said = [line for line in done.stderr.splitlines() if "ids-appliance" in line]
    assert said == []


def test_the_role_and_the_program_mean_the_same_places(
    rendered: dict[str, dict[str, str]],
) -> None:
    assert (VARS["zeek_interface"], VARS["zeek_namespace"]) == (NEAR, NAMESPACE)
    unit = rendered["plain"]["ids-appliance-zeek.service"]
    assert f"WorkingDirectory={Path(Zeek().log).parent}\n" in unit
    assert f"NetworkNamespacePath=/run/netns/{NAMESPACE}\n" in unit and "CPUAffinity=3\n" in unit
    assert Path(Zeek().log).name == "trigger.log"


def test_the_live_script_parses(rendered: dict[str, dict[str, str]], tmp_path: Path) -> None:
    path = tmp_path / "live.zeek"
    path.write_text(rendered["plain"]["live.zeek"], encoding="utf-8")
    script = zeekscript.Script(path)
    script.parse()
    assert not script.has_error()
