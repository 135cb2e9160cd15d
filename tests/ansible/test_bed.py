"""The deployment on booted systems, from nothing to nothing: the tests follow one another.

Takes root, systemd-nspawn, debootstrap, overlay mounts, and the first time a mirror of Debian.
"""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ids_appliance.errors import LabError
from ids_appliance.lab import namespaces
from tests.ansible.bed import ATTACKER, DEVICE, Bed, Run, bed, prepare_wheels
from tests.ansible.snapshot import difference, snapshot
from tests.ansible.trees import ROOT

pytestmark = [pytest.mark.nightly, pytest.mark.net]
TOOLS = ("systemd-nspawn", "debootstrap", "nsenter", "ssh", "ssh-keygen", "sshd")
TOOLS += ("hping3", "ping", "trafgen", "tcpdump")
SUITES = {"gw1": "bookworm", "gw2": "trixie", "node1": "bookworm"}


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    try:
        namespaces.require()
    except LabError as error:
        pytest.skip(str(error))
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(
            f"not installed: {', '.join(missing)} (packages systemd-container, debootstrap)"
        )
    with bed(tmp_path_factory.mktemp("bed"), SUITES) as made:
        yield made


@pytest.fixture(scope="module")
def before(deployed: Bed) -> dict[str, list[str]]:
    """What the hosts were before the first run."""
    return {name: snapshot(host) for name, host in deployed.hosts.items()}


def told(record: pytest.FixtureRequest, what: str) -> None:
    """Show a figure in the report, whatever pytest captures."""
    with record.getfixturevalue("capsys").disabled():
        print(f"\n    {what}", flush=True)


def assert_good(run: Run) -> None:
    assert run.good(), run.text[-6000:]


def assert_unchanged(deployed: Bed, before: dict[str, list[str]]) -> None:
    left = {n: difference(before[n], snapshot(host)) for n, host in deployed.hosts.items()}
    assert not any(left.values()), "\n".join(f"{n}: {line}" for n in left for line in left[n][:40])


def test_what_is_wrong_is_named_before_anything_is_changed(
    deployed: Bed, before: dict[str, list[str]]
) -> None:
    wrong = {
        "no authority": ({}, "make an authority"),
        "no such interface": (
            {"ids_plaintext": True, "gateway_interfaces": ["lan0", "nope0"]},
            "nope0 .* is no interface of gw1",
        ),
        "no node": ({"ids_mode": "offloaded", "gateway_nodes": [], "ids_plaintext": True}, "node"),
        "no way back in": (
            {"ids_plaintext": True, "gateway_firewall_input": "drop", "gateway_protect_live": False}
            | {"gateway_firewall_tcp": [53]},
            "nobody could log in",
        ),
        "no such module": ({"ids_plaintext": True}, "has no module nf_tables, nf_conntrack"),
        "no mirror": (
            {"ids_plaintext": True, "appliance_lists_age_s": 0},
            r"gets no package lists from \S+InRelease",
        ),
    }
    # A kernel whose modules are known, and are none.
    modules = deployed.hosts["gw1"].root / "lib/modules" / os.uname().release
    for what, (variables, said) in wrong.items():
        if what == "no such module":
            modules.mkdir(parents=True)
            (modules / "modules.dep").touch()
        run = deployed.site(**variables)
        shutil.rmtree(modules.parent, ignore_errors=True)
        assert run.code != 0, what
        assert re.search(said, run.text), (what, run.text[-3000:])
        assert run.total("changed") == 0, what
    assert_unchanged(deployed, before)


def test_check_mode_changes_nothing_on_fresh_hosts(
    deployed: Bed, before: dict[str, list[str]], request: pytest.FixtureRequest
) -> None:
    authority = deployed.play("authority.yml", tls_vault_password_file=str(deployed.password))
    assert authority.code == 0, authority.text
    key = deployed.inventory.parent / "pki" / "ca.key"
    assert key.read_text().startswith("$ANSIBLE_VAULT")
    run = deployed.site("--check", "--diff")
    assert_good(run)
    assert run.total("changed") > 10
    assert_unchanged(deployed, before)
    told(request, f"--check --diff on fresh hosts: {run.seconds:.0f} s, nothing changed")


def test_it_converges(deployed: Bed, request: pytest.FixtureRequest) -> None:
    run = deployed.site()
    assert_good(run)
    assert "only OBSERVES" in run.text
    told(request, f"first run: {run.seconds:.0f} s, changed={run.total('changed')}")


def test_a_second_run_changes_nothing(deployed: Bed, request: pytest.FixtureRequest) -> None:
    run = deployed.site()
    assert_good(run)
    assert run.total("changed") == 0, [x for x in run.text.splitlines() if "changed:" in x]
    checked = deployed.site("--check", "--diff")
    assert_good(checked)
    assert checked.total("changed") == 0
    told(request, f"second run: {run.seconds:.0f} s, changed=0; --check {checked.seconds:.0f} s")


def test_units_are_hardened_and_alive(deployed: Bed, request: pytest.FixtureRequest) -> None:
    for host, unit, bound in (
        ("gw1", "ids-appliance.service", 3.0),
        ("node1", "ids-appliance-classifier.service", 2.0),
    ):
        machine = deployed.hosts[host]
        assert machine.say("systemctl", "is-active", unit) == "active\n"
        said = machine.say("systemd-analyze", "security", "--no-pager", unit)
        score = re.search(r"exposure level for \S+: ([\d.]+)", said)
        assert score is not None and float(score[1]) <= bound, said
        told(request, f"systemd-analyze security {unit}: {score[1]}")
    show = deployed.hosts["gw1"].say(
        "systemctl", "show", "ids-appliance", "-p", "WatchdogUSec,User"
    )
    assert "WatchdogUSec=30s" in show and "User=ids-appliance" in show


def test_a_stuck_gateway_is_started_anew(deployed: Bed, request: pytest.FixtureRequest) -> None:
    machine = deployed.hosts["gw2"]
    show = ("systemctl", "show", "ids-appliance", "--value", "-p")
    pid = machine.say(*show, "MainPID").strip()
    machine.say("kill", "-STOP", pid)
    start = time.monotonic()
    while machine.say(*show, "NRestarts").strip() == "0":
        assert time.monotonic() - start < 180
        time.sleep(1)
    while machine.run("systemctl", "is-active", "ids-appliance").returncode:
        assert time.monotonic() - start < 180
        time.sleep(1)
    told(request, f"stopped process: running again after {time.monotonic() - start:.0f} s")


def test_the_toggle_and_an_attack(deployed: Bed, request: pytest.FixtureRequest) -> None:
    run = deployed.site(ids_mode="offloaded")
    assert_good(run)
    told(request, f"toggle to offloaded: {run.seconds:.0f} s, changed={run.total('changed')}")
    assert deployed.ids("gw1", "status")["mode"] == "offloaded"
    deployed.hosts["gw1"].say("/usr/local/bin/ids-appliance", "enforce", "on")
    assert deployed.reaches("gw1")
    deployed.attack("gw1")
    end = time.monotonic() + 60
    while deployed.reaches("gw1"):
        assert time.monotonic() < end, deployed.ids("gw1", "decisions")
    found = deployed.ids("gw1", "decisions")
    told(request, f"SYN flood from {ATTACKER['gw1']}: cut off; {len(found)} decision(s)")
    status = deployed.ids("gw1", "status")
    assert status["counters"]["unanswered"] == 0
    # The other gateway was not attacked, and observes.
    assert deployed.reaches("gw2")


def test_the_benchmark_measures_and_puts_the_mode_back(
    deployed: Bed, request: pytest.FixtureRequest
) -> None:
    few = ["--quick", "--step=1", "--confirmations=0", "--ceiling=1000", "--fixed="]
    out = deployed.place / "bench"
    given = {"bench_arguments": few, "bench_out": str(out)}
    words = ("tcpdump", "-n", "-l", "-i", "to-gw1", "tcp", "and", "src", "host", ATTACKER["gw1"])
    words += ("and", "not", "dst", "host", DEVICE["gw1"])
    with subprocess.Popen(
        deployed.network.command("gen", *words), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as elsewhere:
        before = deployed.received("gw1")
        checked = deployed.play("bench.yml", "--check", **given)
        assert_good(checked)
        assert deployed.received("gw1") - before < 50 and not out.exists()
        run = deployed.play("bench.yml", **given)
        assert_good(run)
        sent = deployed.received("gw1") - before
        assert sent > 300
        elsewhere.terminate()
        assert elsewhere.communicate()[0].strip() == b""
    measured = json.loads((out / "bench.json").read_text("utf-8"))
    assert not measured["interrupted"]
    assert deployed.ids("gw1", "status")["mode"] == "offloaded"
    assert ATTACKER["gw1"] not in json.dumps(deployed.ids("gw1", "allow", "list"))
    told(request, f"bench.yml: {run.seconds:.0f} s, {sent} packets to the sink and nobody else")


def test_a_benchmark_cut_off_puts_the_mode_back(
    deployed: Bed, request: pytest.FixtureRequest
) -> None:
    def until(what: str, wanted: bool) -> float:
        start = time.monotonic()
        while (what in json.dumps(asked())) is not wanted:
            assert time.monotonic() - start < 300, asked()
            time.sleep(1)
        return time.monotonic() - start

    def asked() -> list[Any]:
        return [deployed.ids("gw1", "status")["mode"], deployed.ids("gw1", "allow", "list")]

    few = ["--step=60", "--confirmations=0", "--rounds=1", "--ceiling=200"]
    given = {"bench_modes": ["gateway-only"], "bench_arguments": few, "bench_limit_s": 90}
    with deployed.begin("bench.yml", bench_out=str(deployed.place / "cut"), **given) as run:
        until("gateway-only", wanted=True)
        run.terminate()
        run.communicate(timeout=120)
    took = until("offloaded", wanted=True)
    # What Ansible itself no longer came to, the gateway's own clock does.
    later = until(ATTACKER["gw1"], wanted=False)
    told(request, f"bench.yml cut off: mode back after {took:.0f} s, all of it {later:.0f} s later")


def test_a_revoked_gateway_is_refused_by_the_node(
    deployed: Bed, request: pytest.FixtureRequest
) -> None:
    def nodes(host: str) -> list[dict[str, str]]:
        words = ("/usr/local/bin/ids-appliance", "doctor", "--format", "json")
        found = json.loads(deployed.hosts[host].run(*words).stdout)["findings"]
        return [one for one in found if one["topic"] == "node"]

    assert [one["state"] for one in nodes("gw2")] == ["ok"]
    revoked = deployed.play("authority.yml", tls_revoke=["gw2"])
    assert revoked.code == 0, revoked.text
    run = deployed.site("--limit=node1,gw2", ids_mode="offloaded")
    assert_good(run)
    (said,) = nodes("gw2")
    assert said["state"] == "warn" and "revoked" in said["text"], said
    assert [one["state"] for one in nodes("gw1")] == ["ok"]
    # Cut off from the node it judges by itself.
    end = time.monotonic() + 60
    while "node" not in " ".join(deployed.ids("gw2", "status")["alarms"]):
        assert time.monotonic() < end, deployed.ids("gw2", "status")
        time.sleep(1)
    # Key and certificate removed, it gets new ones.
    folder = "/etc/ids-appliance/tls"
    deployed.hosts["gw2"].say("rm", f"{folder}/gw2.key", f"{folder}/gw2.crt")
    assert_good(deployed.site("--limit=gw2", ids_mode="offloaded"))
    assert [one["state"] for one in nodes("gw2")] == ["ok"]
    told(request, f"gw2 revoked: {revoked.seconds:.0f} s + {run.seconds:.0f} s; then let in anew")


def test_rules_that_lock_out_undo_themselves(deployed: Bed, request: pytest.FixtureRequest) -> None:
    rules = deployed.hosts["gw2"].say("nft", "list", "table", "inet", "ids_base")
    run = deployed.site(
        "--limit=gw2",
        ids_mode="offloaded",
        gateway_firewall_input="drop",
        gateway_protect_live=False,
        gateway_administrators=["203.0.113.0/24"],
        gateway_firewall_tcp=[53],
        gateway_firewall_trial_s=30,
    )
    assert run.code != 0 and "the old ones are back on gw2" in run.text, run.text[-3000:]
    assert deployed.hosts["gw2"].say("nft", "list", "table", "inet", "ids_base") == rules
    assert deployed.site("--limit=gw2", "--check", ids_mode="offloaded").good()
    told(request, f"rules that lock the controller out: undone, {run.seconds:.0f} s in all")


def test_inline_and_notices_come_by_their_variables(
    deployed: Bed, request: pytest.FixtureRequest
) -> None:
    machine = deployed.hosts["gw1"]
    secret = "/etc/ids-appliance/secrets/mqtt"
    mqtt = {"broker": "192.0.2.5:8883", "tls": True, "user": "ids", "password_file": secret}
    told_all = {"gateway_inline": True, "gateway_notices": {"mqtt": mqtt}}
    told_all |= {"gateway_secrets": {"mqtt": "hush-hush\n"}, "ids_mode": "offloaded"}
    for reader in ("batch", "package"):
        run = deployed.site("--limit=gw1", gateway_inline_reader=reader, **told_all)
        assert_good(run)
        assert "hush-hush" not in run.text
        assert machine.say("stat", "-c", "%a %U %G", secret) == "640 root ids-appliance\n"
        assert machine.say("systemctl", "is-active", "ids-appliance") == "active\n"
        assert "queue" in machine.say("nft", "list", "table", "inet", "ids_inline")
        # What the package takes comes with it, and only with it.
        release = machine.say("readlink", "/opt/ids-appliance/current")
        assert ("+gateway" in release) is (reader == "package")
        told(request, f"inline, read by {reader}, and notices: {run.seconds:.0f} s")


def next_version(clone: Path) -> Path:
    """Make a clone with another version number, and its wheel."""
    shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(".*", "build", "*.so", "*.c"))
    project = clone / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    project.write_text(re.sub(r'(?m)^version = ".*"$', 'version = "999.0"', text))
    prepare_wheels(clone)
    return clone


def test_upgrade_and_rollback(
    deployed: Bed, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    machine = deployed.hosts["gw1"]
    release = ("readlink", "/opt/ids-appliance/current")
    old = machine.say(*release)
    # The attack's own ban is short, and this may take long.
    program = "/usr/local/bin/ids-appliance"
    # By its MAC: a gateway that has begun anew has heard no ARP yet that says whose address it is.
    machine.say(program, "quarantine", f"{deployed.mac_of_attacker('gw1')}@lan0", "--for", "7d")
    end = time.monotonic() + 60
    while deployed.reaches("gw1"):
        assert time.monotonic() < end, deployed.ids("gw1", "decisions")
    standing = deployed.ids("gw1", "decisions")
    clone = next_version(tmp_path / "clone")
    with deployed.knocking("gw1") as said:
        run = deployed.site("--limit=gw1,node1", ids_mode="offloaded", appliance_source=str(clone))
        assert_good(run)
    assert machine.say(*release) != old
    assert [d["subject"] for d in deployed.ids("gw1", "decisions")] == [
        d["subject"] for d in standing
    ]
    assert not deployed.reaches("gw1")
    with deployed.knocking("gw1") as said_back:
        back = deployed.play("rollback.yml", "--limit=gw1")
        assert back.code == 0, back.text
    for lines in (said, said_back):
        (line,) = (line for line in lines if "packets transmitted" in line)
        assert " 0 received," in line, line
        told(request, f"banned, while the release changes: {line}")
    assert machine.say(*release) == old
    assert not deployed.reaches("gw1")
    assert machine.say("systemctl", "is-active", "ids-appliance") == "active\n"
    told(request, f"upgrade {run.seconds:.0f} s, rollback {back.seconds:.0f} s; bans stay")


def test_absent_leaves_the_hosts_as_they_were(
    deployed: Bed, before: dict[str, list[str]], request: pytest.FixtureRequest
) -> None:
    checked = deployed.site("--check", ids_state="absent")
    assert_good(checked)
    run = deployed.site(ids_state="absent")
    assert_good(run)
    assert_unchanged(deployed, before)
    again = deployed.site(ids_state="absent")
    assert_good(again)
    assert again.total("changed") == 0
    told(request, f"absent: {run.seconds:.0f} s, nothing of ours left")
