"""What the roles write, as the programs read it that it is for: our own, nft, tc, systemd."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ids_appliance.config_file import load
from tests.ansible.conftest import Play

HOSTS = {
    "plain": {"gateway_interfaces": ["lan0"]},
    "full": {
        "gateway_interfaces": ["lan0", "iot0"],
        "gateway_mode": "offloaded",
        "gateway_nodes": ["192.0.2.10:7447", "[2001:db8::10]:7447"],
        "gateway_administrators": ["192.0.2.0/28", "2001:db8::/64", "198.51.100.7@eth0"],
        "gateway_names": {"02:00:5e:00:53:01": 'the "good" plug, größer'},
        "gateway_bindings": {"192.0.2.1": "02:00:5e:00:53:fe"},
        "gateway_firewall_input": "drop",
        "gateway_firewall_rules": ['iifname "lan0" tcp dport 8080 accept'],
        "gateway_login": "198.51.100.9",
        "gateway_shaping_mbit": {"lan0": 900},
        "gateway_cpus": "1-3",
        "gateway_inline": True,
        "gateway_inline_reader": "package",
        "gateway_notices": {"mqtt": {"broker": "192.0.2.5:8883", "tls": True}},
        "gateway_settings": {
            "window": {"window_s": 20},
            "trigger": {"dos": {"syns": 300}},
            "policy": {"priors": {"dos": 1.5}},
        },
    },
    "batch": {"gateway_interfaces": ["lan0"], "gateway_inline": True, "ids_dashboard": True},
    "plaintext": {
        "gateway_interfaces": ["lan0"],
        "gateway_mode": "offloaded",
        "gateway_plaintext": True,
        "gateway_nodes": ["192.0.2.10:7447"],
        "classifier_plaintext": True,
        "gateway_enforce": True,
        "gateway_firewall_arp_pps": 0,
    },
}
Rendered = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def rendered(play: Play, tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    to = tmp_path_factory.mktemp("rendered")
    done = play("templates.yml", HOSTS, "appliance", "gateway", "classifier", rendered_to=str(to))
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: json.loads((to / f"{name}.json").read_text("utf-8")) for name in HOSTS}


@pytest.fixture(params=sorted(HOSTS))
def files(request: pytest.FixtureRequest, rendered: Rendered, tmp_path: Path) -> Path:
    for name, text in rendered[request.param].items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_says_what_the_variables_say(rendered: Rendered, tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    group = subprocess.run(["id", "-gn"], capture_output=True, text=True, check=True).stdout.strip()

    def config_of(host: str):  # type: ignore[no-untyped-def]
        text = rendered[host]["gateway.toml"].replace(
            'group = "ids-appliance"', f'group = "{group}"'
        )
        path.write_text(text, encoding="utf-8")
        return load(path)

    plain = config_of("plain")
    assert plain.interfaces == ("lan0",)
    assert plain.mode == "gateway-only" and not plain.enforce.enabled
    full = config_of("full")
    assert full.mode == "offloaded" and not full.node.plaintext
    assert full.node.addresses == ("192.0.2.10:7447", "[2001:db8::10]:7447")
    assert full.names == {"02:00:5e:00:53:01": 'the "good" plug, größer'}
    assert full.inline.enabled and not plain.inline.enabled
    assert full.inline.reader == "package"
    assert full.notices.mqtt.broker == "192.0.2.5:8883" and full.notices.mqtt.tls
    assert full.window.window_s == 20 and full.trigger.dos.syns == 300
    assert full.trigger.bindings == {"192.0.2.1": "02:00:5e:00:53:fe"}
    assert full.policy.priors["dos"] == 1.5
    assert full.tc.rates == {"lan0": "900 mbit"} and plain.tc.rates == {}
    assert set(full.protect.administrators) >= {"198.51.100.9", "198.51.100.7@eth0"}
    plaintext = config_of("plaintext")
    assert plaintext.node.plaintext and not plaintext.node.cert and plaintext.enforce.enabled


def test_what_a_variable_takes_comes_with_it_and_only_then(rendered: Rendered) -> None:
    extras = {host: texts["extras"] for host, texts in rendered.items()}
    assert extras == {
        "plain": "",
        "plaintext": "",
        "batch": "dashboard",
        "full": "notices,gateway",
    }


def test_protected_ones_come_first_in_every_chain_that_drops(rendered: Rendered) -> None:
    for host, texts in rendered.items():
        for name in ("firewall.nft", "port.nft"):
            for chain in texts[name].split("chain ")[1:]:
                lines = [line.strip() for line in chain.splitlines()]
                drops = [n for n, line in enumerate(lines) if line.endswith("drop")]
                if drops:
                    assert lines.index("ip saddr @protected4 accept") < drops[0], (host, name)
                    assert lines.index("ip6 saddr @protected6 accept") < drops[0], (host, name)
    full = rendered["full"]["firewall.nft"]
    assert "198.51.100.9" in full and "192.0.2.10" in full and "2001:db8::10" in full


@pytest.mark.net
@pytest.mark.parametrize("name", ["firewall.nft", "port.nft"])
def test_nft_takes_the_rules(files: Path, name: str) -> None:
    if os.geteuid() or shutil.which("nft") is None:
        pytest.skip("needs root and nft")
    run("unshare", "--net", "nft", "--check", "--file", str(files / name))


def test_systemd_takes_the_units(files: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    for unit in files.glob("*.service"):
        text = unit.read_text("utf-8")
        # It looks whether the programs are there.
        unit.write_text(
            text.replace("/opt/ids-appliance/current/bin/ids-appliance", "/bin/true").replace(
                "/opt/ids-appliance/libexec/", "/bin/"
            ),
            encoding="utf-8",
        )
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, files.glob("*.service"))],
        capture_output=True,
        text=True,
        check=False,
    )
    wrong = [line for line in done.stderr.splitlines() if str(files) in line]
    assert wrong == []
