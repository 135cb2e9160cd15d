"""Bad and contradictory variables: each named, with the variable, before anything is changed."""

import re

import pytest

from tests.ansible.conftest import Play

GOOD = {"gateway_interfaces": ["lo"]}
WRONG = {
    "empty": ({"gateway_interfaces": []}, r"gateway_interfaces = \[\]"),
    "twice": ({"gateway_interfaces": ["lo", "lo"]}, "name each interface .* once"),
    "missing": ({"gateway_interfaces": ["nope0"]}, "nope0 .*gateway_interfaces.* is no interface"),
    "lonely": (GOOD | {"gateway_mode": "offloaded", "gateway_nodes": []}, "needs a node"),
    "both": (
        GOOD | {"gateway_plaintext": True, "gateway_settings": {"node": {"cert": "x"}}},
        "exclude each other",
    ),
    "said-twice": (GOOD | {"gateway_settings": {"model": "x"}}, "may not set model"),
    "no-network": (GOOD | {"gateway_administrators": ["home"]}, "home is no network"),
    "no-speed": (GOOD | {"gateway_shaping_mbit": {"lo": 0}}, r"gateway_shaping_mbit\.lo = 0"),
    "locked-out": (
        GOOD
        | {
            "gateway_firewall_input": "drop",
            "gateway_protect_live": False,
            "gateway_firewall_tcp": [53],
        },
        "nobody could log in",
    ),
    "wrong-type": (GOOD | {"gateway_watchdog_s": "soon"}, "gateway_watchdog_s"),
    "no-such-choice": (GOOD | {"gateway_mode": "both"}, "gateway_mode"),
    "old-python": (GOOD | {"fake_python": "3.10"}, r"has Python 3\.10 .*3\.11"),
}


@pytest.fixture(scope="module")
def said(play: Play) -> dict[str, str]:
    """What each host's preflight ends with; `good` is a host with nothing wrong."""
    hosts = {name: variables for name, (variables, _) in WRONG.items()}
    done = play("preflight.yml", hosts | {"good": GOOD})
    # Of each failure the block from "[ERROR]" or "fatal:" on, joined into one line.
    found = {name: "" for name in (*hosts, "good")}
    for host, text in re.findall(
        r"(?:fatal|failed): \[([\w-]+)\][^\n]*?=>(.*?)"
        r"(?=\nfatal:|\nfailed:|\nok:|\nskipping:|\nTASK|\nPLAY|\n\[)",
        done.stdout,
        re.DOTALL,
    ):
        found[host] += " ".join(text.split())
    assert "PLAY RECAP" in done.stdout, done.stdout + done.stderr
    found["recap"] = done.stdout.partition("PLAY RECAP")[2]
    return found


@pytest.mark.parametrize("which", sorted(WRONG))
def test_wrong_variables_are_named(which: str, said: dict[str, str]) -> None:
    assert re.search(WRONG[which][1], said[which]), said[which] or "nothing was found wrong"


def test_good_ones_pass_and_nothing_is_changed(said: dict[str, str]) -> None:
    assert said["good"] == ""
    assert set(re.findall(r"changed=(\d+)", said["recap"])) == {"0"}
    assert "unreachable=1" not in said["recap"]
