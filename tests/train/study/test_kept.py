"""A replayed capture is taken from the folder as long as nothing that decided it has changed."""

import random

import pytest

from ids_appliance.classify.bundle import save_bundle
from ids_appliance.policy import bounds
from ids_appliance.train.labels import read_labels
from ids_appliance.train.study import replays
from ids_appliance.train.study.replays import replay_kept
from tests.train.captures import entry, flood, save_labels, write_pcap


@pytest.fixture
def again(tmp_path, small_bundle):
    """Replay one small capture; returns the row, and how many are kept then."""
    data, folder, model = (tmp_path / name for name in ("data", "kept", "model"))
    folder.mkdir()
    save_bundle(small_bundle, model)
    write_pcap(data / "home/x.pcap", flood(random.Random(1), 20, port=80))
    save_labels(data, [entry("home/x.pcap", family="DoS", default="malicious")])
    [listed] = read_labels(data / "labels.json")

    def replayed():
        row = replay_kept(listed, model, data=data, folder=folder)
        return row, len(list(folder.iterdir()))

    return replayed


def test_the_same_again_is_not_replayed_again(again):
    first, kept = again()
    assert first["frames"] == 20 and kept == 1
    # The row tells how long it took: only the very same one is equal.
    assert again() == (first, 1)


def test_other_bounds_are_replayed_anew(again, tmp_path, monkeypatch):
    again()
    other = tmp_path / "bounds.json"
    other.write_bytes(bounds.SHIPPED.read_bytes() + b"\n")
    monkeypatch.setattr(bounds, "SHIPPED", other)
    assert again()[1] == 2


def test_other_settings_are_replayed_anew(again, monkeypatch):
    again()
    old = replays.settings
    monkeypatch.setattr(
        replays, "settings", lambda run, whole=None: old("always" if run == "appliance" else run)
    )
    assert again()[1] == 2
