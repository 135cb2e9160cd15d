"""The `predict` command: exact probabilities here and on a node, and what bad input gets."""

import json
import socket

import numpy as np
import pytest

from ids_appliance.classify.bundle import save_bundle
from tests.classify.nodes import NodeProcess
from tests.test_modes import offline


@pytest.fixture
def node(model, tmp_path):
    node = NodeProcess(model, tmp_path / "node.log")
    yield node
    node.close()


def columns(done):
    lines = done.stdout.decode().splitlines()
    assert lines[0].split(",")[:3] == ["frame", "probability", "verdict"]
    return [line.split(",") for line in lines[1:]]


def test_probabilities_are_exact_and_verdicts_follow(ids, capture, model, small_bundle):
    rows = columns(ids("predict", capture, "--model", model))
    expected = offline(capture, small_bundle)
    assert np.array([float(r[1]) for r in rows]).tobytes() == expected.tobytes()
    assert [int(r[2]) for r in rows] == (expected > small_bundle.grid.threshold).tolist()


def test_a_node_prints_the_same(ids, capture, model, node):
    address = "{}:{}".format(*node.address)
    here = ids("predict", capture, "--model", model)
    options = ["--node", address, "--plaintext", "--deadline", "30"]
    there = ids("predict", capture, "--model", model, *options)
    assert there.returncode == 0 and there.stdout == here.stdout
    assert ids("predict", capture, *options).stdout == here.stdout


def test_other_formats_say_the_same(ids, capture, model, small_bundle):
    rows = columns(ids("predict", capture, "--model", model, "--with-model"))
    found = ids("predict", capture, "--model", model, "--format", "jsonl").stdout.splitlines()
    first = json.loads(found[0])
    assert [str(first["frame"]), repr(first["probability"]), str(first["verdict"])] == rows[0][:3]
    assert first["model"] == rows[0][3] == small_bundle.grid.model_id.hex()
    table = ids("predict", capture, "--model", model, "--format", "summary").stdout.decode()
    assert "delivered 16,621" in table
    assert max(map(len, table.splitlines())) <= 100


def test_the_summary_of_a_gateways_capture_is_by_device(ids, capture, model):
    arguments = ["predict", capture, "--model", model, "--format", "summary"]
    by_address = ids(*arguments).stdout.decode()
    assert "192.168.77.66" in by_address and "more senders" in by_address
    known = ["--gateway-mac", "02:00:00:00:77:01", "--gateway-address", "192.168.77.1"]
    by_device = ids(*arguments, *known).stdout.decode()
    assert by_device.count("02:00:00:00:77:42") == 1 and "more senders" not in by_device


def test_without_a_model_or_a_node_nothing_is_guessed(refused, capture):
    assert "--model" in refused("predict", capture)


def test_a_node_with_another_model_is_refused(refused, capture, node, other_bundle, tmp_path):
    save_bundle(other_bundle, tmp_path / "other")
    address = "{}:{}".format(*node.address)
    line = refused(
        "predict", capture, "--model", tmp_path / "other", "--node", address, "--plaintext"
    )
    assert "judges with model" in line


def test_a_node_that_is_not_there_is_one_line(refused, capture):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        assert address in refused("predict", capture, "--node", address, "--plaintext")


def test_tls_is_not_left_out_by_accident(refused, capture):
    assert "--plaintext" in refused("predict", capture, "--node", "127.0.0.1:9")


def test_a_damaged_bundle_is_one_line(refused, started, capture, model, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in model.iterdir():
        content = file.read_bytes()
        (broken / file.name).write_bytes(content[:-40] if file.suffix == ".npz" else content)
    assert str(broken) in refused("predict", capture, "--model", broken)
    assert "no/such" in refused("predict", capture, "--model", "no/such")
    # The same in a process of its own: the line, and nothing else.
    done = started("predict", capture, "--model", "no/such")
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1
    assert done.stderr.startswith(b"Error: ") and not done.stdout
