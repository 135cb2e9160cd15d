"""`calibrate`: bounds from captures, with and without labels, and what bad input gets."""

import json
import shutil

import numpy as np
import pytest

from ids_appliance import config
from ids_appliance.classify.bundle import make_bundle, save_bundle
from ids_appliance.cli.calibrate_live import Watch, read_state, write_state
from ids_appliance.cli.calibrating import training_prior
from ids_appliance.errors import BoundsError
from ids_appliance.policy.bounds import read_bounds, settings_of
from tests.bundles import random_arrays

CARD = {"options": {"weight": "origin"}, "data": []}


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A random model whose card says what a trained one's says."""
    path = tmp_path_factory.mktemp("model") / "trained"
    save_bundle(make_bundle(random_arrays(1), 0.5, card=CARD), path)
    return path


@pytest.fixture
def labels(capture):
    return capture.parent / "labels.json"


def test_bounds_come_from_a_capture(ids, capture, trained, tmp_path):
    out = tmp_path / "bounds.json"
    done = ids("calibrate", capture, "--model", trained, "--out", out)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert "ordinary senders of 1 network" in text and "0.1%" in text and "5.0%" in text
    bounds = read_bounds(out)
    assert bounds.upper >= bounds.least == 14.0 and bounds.false_alarms == 0.001
    assert bounds.senders > 5 and bounds.malicious_senders == 0
    assert bounds.table[0].ordinary == 0 and bounds.table[0].malicious is None
    (digest,) = bounds.data.values()
    assert len(digest) == 64


def test_the_same_capture_gives_the_same_bounds(ids, capture, trained, tmp_path):
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    for out in (first, second):
        assert ids("calibrate", capture, "--model", trained, "--out", out).returncode == 0
    assert first.read_bytes() == second.read_bytes()


def test_labels_tell_ordinary_senders_from_attackers(ids, capture, labels, trained, tmp_path):
    out = tmp_path / "bounds.json"
    done = ids("calibrate", "--labels", labels, "--model", trained, "--out", out)
    assert done.returncode == 0, done.stderr
    bounds = read_bounds(out)
    everybody = tmp_path / "all.json"
    ids("calibrate", capture, "--model", trained, "--out", everybody)
    assert 0 < bounds.malicious_senders
    assert bounds.senders < read_bounds(everybody).senders
    assert bounds.table[0].malicious is not None and "malicious reach it" in done.stdout.decode()


def test_a_rate_is_met_and_a_higher_one_gives_no_higher_bound(ids, labels, trained, tmp_path):
    found = []
    for rate in ("0.5", "0.02"):
        out = tmp_path / f"{rate}.json"
        ids(
            *("calibrate", "--labels", labels, "--model", trained, "--false-alarms", rate),
            *("--out", out),
        )
        bounds = read_bounds(out)
        row = next(row for row in bounds.table if row.false_alarms == float(rate))
        assert row.upper == bounds.upper and row.ordinary <= float(rate) * bounds.senders
        found.append(bounds.upper)
    assert found[0] <= found[1]


def test_networks_the_model_was_trained_on_are_left_out(ids, capture, labels, tmp_path):
    entry = json.loads(labels.read_text())["files"][0]
    group = entry.get("group", entry["file"])
    card = CARD | {"data": [{"file": "x", "origin": group, "sha256": "00"}]}
    model = tmp_path / "model"
    save_bundle(make_bundle(random_arrays(1), 0.5, card=card), model)
    done = ids("calibrate", "--labels", labels, "--model", model)
    assert done.returncode == 2 and b"no ordinary sender" in done.stderr
    assert b"trained on): 1 captures" in done.stderr
    done = ids("calibrate", "--labels", labels, "--model", model, "--with-trained")
    assert done.returncode == 0, done.stderr


def test_settings_of_a_configuration_count(ids, capture, trained, tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text(
        'interfaces = ["eth1"]\nmodel = "m"\n[policy]\nclip = 3.0\npriors = {port_scan = 1.5}\n'
    )
    out = tmp_path / "bounds.json"
    done = ids("calibrate", capture, "--model", trained, "--config", file, "--out", out)
    assert done.returncode == 0, done.stderr
    bounds = read_bounds(out)
    assert bounds.settings.clip == 3.0 and bounds.least == 21.0
    assert bounds.priors["port_scan"] == 1.5


def test_bad_input_is_one_line(refused, capture, model, trained, labels, tmp_path):
    assert "no file" in refused("calibrate", "eth9", "--model", trained)
    assert "name captures" in refused("calibrate", "--model", trained)
    assert "--for needs" in refused("calibrate", "--for", "1h", "--model", trained)
    assert "not a duration" in refused("calibrate", "lo", "--for", "soon", "--model", trained)
    # As `pause` and `quarantine` read it.
    assert "--for needs" in refused("calibrate", "--for", "1h30m", "--model", trained)
    assert "cannot open" in refused("calibrate", capture, "--model", tmp_path / "none")
    assert "does not say" in refused("calibrate", capture, "--model", model)
    elsewhere = shutil.copy(capture, tmp_path / "other.pcap.gz")
    line = refused("calibrate", elsewhere, "--labels", labels, "--model", trained)
    assert "does not label" in line
    (tmp_path / "text").write_text("not a capture")
    assert "text" in refused("calibrate", tmp_path / "text", "--model", trained)
    line = refused("calibrate", capture, "--model", trained, "--out", tmp_path / "no" / "b.json")
    assert "cannot write" in line


def test_the_prior_is_the_training_datas():
    assert training_prior({"options": {"weight": "balanced"}}) == 0.0
    counts = {"malicious": 100, "benign": 300}
    card = {"options": {"weight": "packet"}, "packets_trained_on": counts}
    assert training_prior(card) == pytest.approx(np.log(1 / 3))
    for broken in ({}, {"packets_trained_on": {"malicious": 0, "benign": 1}}, {"options": 3}):
        with pytest.raises(BoundsError, match="card"):
            training_prior(broken)


class _Setup:
    """As much of a Setup as the state file depends on."""

    def __init__(self, bundle, policy):
        self.bundle, self.policy = bundle, policy


def test_a_state_file_goes_on_only_for_the_same_model_and_policy(small_bundle, tmp_path):

    setup = _Setup(small_bundle, config.Policy())
    state = tmp_path / "state.json"
    watch = read_state(state, setup)
    assert watch.watched_s == 0.0 and watch.senders == {}
    known = Watch(
        model_id=watch.model_id,
        settings=settings_of(config.Policy()),
        watched_s=60.0,
        senders={"02:00:00:00:00:01@eth1": (1.5, 100, 2)},
    )
    write_state(known, state)
    assert read_state(state, setup) == known
    with pytest.raises(BoundsError, match="another model or policy"):
        read_state(state, _Setup(small_bundle, config.Policy(clip=3.0)))
    state.write_text("{")
    with pytest.raises(BoundsError, match="no calibration"):
        read_state(state, setup)
    with pytest.raises(BoundsError, match="cannot read"):
        read_state(tmp_path, setup)
    with pytest.raises(BoundsError, match="cannot write"):
        write_state(known, tmp_path / "no" / "state.json")
