"""The tests' own networks leave nothing behind, not even after a crash."""

import os
import subprocess
import sys

import pytest

from tests.net.namespaces import Network, sweep

pytestmark = pytest.mark.net


def namespaces() -> set[str]:
    listed = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True)
    return {line.split()[0] for line in listed.stdout.splitlines()}


def test_gone_after_use_and_after_a_failure(privileged: None) -> None:
    before = namespaces()
    with pytest.raises(RuntimeError), Network("f", "one", "two") as net:
        assert {net.full("one"), net.full("two")} <= namespaces()
        raise RuntimeError
    assert namespaces() == before


def test_gone_after_a_crash(privileged: None) -> None:
    code = (
        "import os; from tests.net.namespaces import Network\n"
        "net = Network('c', 'left').__enter__(); print(net.full('left'), flush=True); os._exit(9)"
    )
    crashed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False
    )
    left = crashed.stdout.strip()
    assert crashed.returncode == 9 and left in namespaces()
    sweep()
    assert left not in namespaces()
