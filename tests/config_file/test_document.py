"""The handbook is what the configuration's sections say, and the example is a good file."""

import msgspec

from ids_appliance.config import Config
from ids_appliance.config_file import load
from ids_appliance.config_file.document import effective, failure_policies, markdown
from ids_appliance.config_file.words import section_meanings, settings
from tests.architecture.sources import ROOT


def test_the_handbook_is_up_to_date() -> None:
    stored = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    assert stored == markdown(), (
        "run: python -m ids_appliance check --document > docs/configuration.md"
    )


def test_every_setting_has_a_meaning() -> None:
    assert [setting.place for setting in settings() if len(setting.meaning) < 10] == []


def test_the_example_is_good_and_its_comments_hold() -> None:
    path = ROOT / "docs" / "gateway.toml"
    config = load(path)
    assert config.interfaces == ("br-lan",) and not config.enforce.enabled


def test_the_example_is_good_with_all_that_is_commented_out(tmp_path) -> None:
    lines = []
    for line in (ROOT / "docs" / "gateway.toml").read_text("utf-8").splitlines():
        shown = line.removeprefix("# ")
        is_setting = line.startswith("# ") and " = " in shown and "group" not in shown
        lines.append(shown if is_setting else line)
    (tmp_path / "all.toml").write_text("\n".join(lines), "utf-8")
    config = load(tmp_path / "all.toml", mode="offloaded")
    assert config.node.addresses == ("node.example:7447",) and config.names
    assert config.metrics.listen == "127.0.0.1:9107" and config.enforce.ceilings


def test_effective_settings_say_where_they_are_from(tmp_path) -> None:
    path = tmp_path / "g.toml"
    path.write_text('interfaces = ["eth1"]\nmodel = "/m"\nprofile = "paper"\n[ring]\nmib = 8\n')
    rows = {place: (value, origin) for place, value, origin in effective(load(path))}
    assert rows["ring.mib"] == ("8", "file")
    assert rows["ring.retire_ms"] == ("4", "")
    assert rows["policy.kind"] == ('"per_packet"', "profile")
    assert rows["node.transport"] == ('"json"', "profile")
    assert rows["interfaces"] == ('["eth1"]', "file")
    assert len(rows) == len(list(settings())) > 90


def test_failure_policies_are_those_of_the_configuration() -> None:
    base = Config(interfaces=("eth1",))
    for down in ("local", "open", "closed"):
        failure = msgspec.structs.replace(base.failure, on_classifier_down=down)
        lines = failure_policies(msgspec.structs.replace(base, failure=failure))
        assert lines[0].startswith(f"on_classifier_down = {down}: ")
        assert all("\n" not in line for line in lines)


def test_where_packets_are_held_it_is_said_what_a_full_queue_does() -> None:
    base = Config(interfaces=("eth1",))
    held = msgspec.structs.replace(base.inline, enabled=True, fail_open=False)
    lines = failure_policies(msgspec.structs.replace(base, inline=held))
    assert len(lines) == len(failure_policies(base)) + 2
    assert any("fail_open" in line and "are dropped" in line for line in lines)


def test_what_a_rule_counts_is_said_where_several_are_set_alike() -> None:
    meanings = section_meanings()
    alike = [place for place in meanings if place.startswith("trigger.")]
    assert len({meanings[place] for place in alike}) == len(alike)
    assert meanings["trigger.udp_rate"] == "UDP packets to one victim."
