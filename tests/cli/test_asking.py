"""Where the sockets are: --config, --run-dir or the usual place."""

import pytest

from ids_appliance.cli.asking import RUN_DIR, run_dir_of
from tests.cli.asked import call, one_line


def test_the_usual_place():
    assert str(run_dir_of(None, None)) == str(RUN_DIR) == "/run/ids-appliance"


def test_a_configuration_names_it(live, tmp_path):
    config = tmp_path / "gateway.toml"
    config.write_text(f'run_dir = "{live.run_dir}"\ninterfaces = 7 # wrong, and no concern of ours')
    done = call("status", "--config", str(config))
    assert done.exit_code == 0 and "process 4711" in done.stdout


def test_a_configuration_need_not_name_it(tmp_path):
    config = tmp_path / "gateway.toml"
    config.write_text('interfaces = ["eth1"]')
    assert run_dir_of(config, None) == RUN_DIR


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"run_dir = ", "is not TOML"),
        (b"\xff\xfe", "is not TOML"),
        (b"run_dir = 7", "not the name of a directory"),
        (b'run_dir = ""', "not the name of a directory"),
        (None, "No such file"),
    ],
)
def test_a_bad_configuration_is_one_line(tmp_path, text, says):
    config = tmp_path / "gateway.toml"
    if text is not None:
        config.write_bytes(text)
    assert says in one_line(call("status", "--config", str(config)))


def test_both_are_too_many(tmp_path):
    done = call("status", "--config", "gateway.toml", "--run-dir", str(tmp_path))
    assert "give one of them" in one_line(done)
