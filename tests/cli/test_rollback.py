"""`rollback`: bounds that `calibrate` replaced are back by one command, wherever it was stopped."""

import os

import pytest

from ids_appliance.classify.bundle import make_bundle, save_bundle
from ids_appliance.cli.previous import go_back, keep, previous
from ids_appliance.policy.bounds import read_bounds
from tests.bundles import random_arrays


def test_bounds_that_calibrate_replaced_are_back_by_one_command(ids, capture, tmp_path):
    card = {"options": {"weight": "origin"}, "data": []}
    model, out = tmp_path / "model", tmp_path / "bounds.json"
    save_bundle(make_bundle(random_arrays(1), 0.5, card=card), model)
    file = tmp_path / "gateway.toml"
    file.write_text('interfaces = ["eth1"]\nmodel = "m"\n[policy]\nclip = 3.0\n')
    asked = ("calibrate", capture, "--model", model, "--out", out)
    done = ids(*asked)
    assert done.returncode == 0, done.stderr
    assert b"rollback" not in done.stdout and not previous(out).exists()
    old = out.read_bytes()
    done = ids(*asked, "--config", file)
    assert done.returncode == 0, done.stderr
    assert f"the bounds before: ids-appliance rollback {out}" in done.stdout.decode()
    new = out.read_bytes()
    assert read_bounds(out).settings.clip == 3.0 and previous(out).read_bytes() == old != new

    assert ids("rollback", out).returncode == 0
    assert out.read_bytes() == old and previous(out).read_bytes() == new
    assert read_bounds(out).settings.clip == 2.0
    assert ids("rollback", out).returncode == 0  # forward again
    assert out.read_bytes() == new and previous(out).read_bytes() == old


@pytest.mark.parametrize("folder", [False, True], ids=["file", "bundle"])
@pytest.mark.parametrize("renames", [0, 1, 2, 3])
def test_stopped_anywhere_the_same_command_completes_it(tmp_path, monkeypatch, folder, renames):
    def write(text):
        if folder:
            path.mkdir(exist_ok=True)
        (path / "card.json" if folder else path).write_text(text)

    def read(where):
        return (where / "card.json" if folder else where).read_text()

    path = tmp_path / "it"
    write("old")
    assert keep(path)
    write("new")
    done = []

    class Stopped(Exception):
        pass

    def rename(source, target):
        if len(done) == renames:
            raise Stopped
        done.append(source)
        os.replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr("ids_appliance.cli.previous.os.rename", rename)
        if renames < 3:
            with pytest.raises(Stopped):
                go_back(path)
        else:
            go_back(path)
    if renames < 3:
        go_back(path)
    assert (read(path), read(previous(path))) == ("old", "new")
    assert {one.name for one in tmp_path.iterdir()} == {"it", "it.previous"}
