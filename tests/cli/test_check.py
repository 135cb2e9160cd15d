"""`check` reads everything that a configuration names and changes nothing."""

import pytest
from click.testing import CliRunner

from ids_appliance.classify.bundle import save_bundle
from ids_appliance.cli import main


@pytest.fixture
def check(tmp_path, small_bundle):
    save_bundle(small_bundle, tmp_path / "model")

    def check(text: str, *options: str):
        path = tmp_path / "gateway.toml"
        path.write_text(text)
        return CliRunner().invoke(main, ["check", "--config", str(path), *options])

    return check


GOOD = 'interfaces = ["lo"]\nmodel = "model"\n'


def test_a_good_file(check) -> None:
    result = check(GOOD + "[ring]\nmib = 8\n")
    assert result.exit_code == 0, result.output
    assert "trigger.dos.syns" in result.output and "on_classifier_down = local" in result.output
    assert result.output.rstrip().endswith("gateway.toml: good") or "Warning" in result.output
    assert max(map(len, result.stdout.splitlines()[:-1])) <= 100


def test_only_what_was_changed(check) -> None:
    result = check(GOOD + "[ring]\nmib = 8\n", "--changed")
    table = result.stdout.partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in table] == ["interfaces", "model", "ring.mib"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("interfaces = [", "not TOML"),
        (GOOD.replace("lo", "nosuch0"), "no interface 'nosuch0'"),
        (GOOD.replace('"model"', '"nosuch"'), "nosuch"),
        (GOOD + '[policy]\nbounds = "nosuch.json"\n', "cannot read the bounds"),
        (GOOD + "[trigger.mirai]\nhosts = 65\n", "trigger.mirai.hosts = 65"),
        (GOOD + "[trigger.connection_rate]\nenabled = true\ncount = 0\n", "at least 1"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(check, text, line) -> None:
    result = check(text)
    assert result.exit_code == 2 and line in result.stderr
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1


def test_another_mode_may_be_checked(check, tmp_path) -> None:
    result = check(GOOD, "--mode", "offloaded")
    assert result.exit_code == 2 and "needs node.addresses" in result.stderr
    node = '[node]\naddresses = ["n:1"]\ncert = "c.pem"\nkey = "k.pem"\nca = "ca.pem"\n'
    result = check(GOOD + node, "--mode", "offloaded")
    assert result.exit_code == 2 and "c.pem" in result.stderr
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".pem")]


def test_the_handbook_can_be_printed_without_a_file() -> None:
    result = CliRunner().invoke(main, ["check", "--document"])
    assert result.exit_code == 0 and result.stdout.startswith("# The configuration file\n")
