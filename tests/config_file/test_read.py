"""Good files become configurations, bad ones one line that names place and remedy."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ids_appliance.config import Config, Dos, Rate
from ids_appliance.config_file import load
from ids_appliance.errors import ConfigError

GOOD = 'interfaces = ["eth1"]\nmodel = "m"\n'


@pytest.fixture
def read(tmp_path):
    def read(text: str | bytes, **options) -> Config:
        path = tmp_path / "gateway.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(path, **options)

    return read


def refusal(read, text: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    message = str(caught.value)
    assert "\n" not in message and "gateway.toml: " in message
    return message.partition("gateway.toml: ")[2]


def test_what_is_not_said_has_its_default(read, tmp_path) -> None:
    config = read(GOOD)
    assert config == Config(interfaces=("eth1",), model=str(tmp_path / "m"))


def test_what_is_said_holds_and_keeps_its_neighbours(read) -> None:
    config = read(GOOD + "[trigger.dos]\nsyns = 9\n[trigger.udp_rate]\nenabled = true\n")
    assert config.trigger.dos == Dos(syns=9)
    # The default count of udp_rate, not of every Rate.
    assert config.trigger.udp_rate == Rate(enabled=True, count=5000)


def test_whole_numbers_are_numbers(read) -> None:
    assert read(GOOD + "[window]\nwindow_s = 7\n").window.window_s == 7.0


def test_files_are_looked_up_beside_the_configuration(read, tmp_path) -> None:
    config = read(
        'interfaces = ["eth1"]\nmode = "offloaded"\nmodel = "/m"\n[node]\n'
        'addresses = ["[::1]:7447"]\ncert = "a.pem"\nkey = "k/a.key"\nca = "ca.pem"\n'
    )
    assert config.model == "/m"
    assert (config.node.cert, config.node.crl) == (str(tmp_path / "a.pem"), "")
    assert config.node.key == str(tmp_path / "k/a.key")


def test_the_command_line_may_choose_the_mode(read) -> None:
    text = GOOD + '[node]\naddresses = ["n:7447"]\nplaintext = true\n'
    assert read(text).mode == "gateway-only"
    assert read(text, mode="offloaded").mode == "offloaded"


def test_no_file(tmp_path) -> None:
    with pytest.raises(ConfigError, match="none.toml: cannot be read: No such file"):
        load(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_too_large(read) -> None:
    assert "larger than 1024 KiB" in refusal(read, b"#" * ((1 << 20) + 1))


def test_nested_too_deeply(read) -> None:
    assert refusal(read, GOOD + "x = " + "[" * 5000)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("interfaces = [\n", "line 2: not TOML"),
        ("a = 1\nb == 2\n", "line 2: not TOML"),
        ("a = 1\na = 2\n", "line 2: not TOML: Cannot overwrite a value"),
        (b"a = 1\nb = '\xff'\n", "line 2: not UTF-8"),
    ],
)
def test_syntax_is_refused_with_its_line(read, text: str | bytes, line: str) -> None:
    assert refusal(read, text).startswith(line)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ("interface = 1", "there is no setting 'interface': did you mean 'interfaces'"),
        ("[trigger.dos]\nsyn = 1", "[trigger.dos] has no setting 'syn': did you mean 'syns'"),
        ("[triger]\nx = 1", "there is no setting 'triger': did you mean 'trigger'"),
        ("[trigger]\nsyns = 1", "[trigger] has no setting 'syns': it belongs to [trigger.dos]"),
        ("[metrics]\nzzz = 1", "[metrics] has no setting 'zzz': there are listen"),
    ],
)
def test_unknown_keys_are_named_with_the_nearest(read, more: str, line: str) -> None:
    assert refusal(read, GOOD + more) == line


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ('[trigger.dos]\nsyns = "x"', 'trigger.dos.syns = "x": expected a whole number, >= 1'),
        ("[trigger.dos]\nsyns = 0", "trigger.dos.syns = 0: expected a whole number, >= 1"),
        ("[trigger.dos]\nsyns = true", "trigger.dos.syns = true: expected a whole number"),
        ("[ring]\nmib = 1.5", "ring.mib = 1.5: expected a whole number, >= 1 and <= 1024"),
        ("[window]\nwindow_s = -1", "window.window_s = -1: expected a number, > 0"),
        ("[window]\nwindow_s = inf", "window.window_s = inf: expected a number, > 0"),
        ("[window]\nwindow_s = nan", "window.window_s = nan: expected a number, > 0"),
        ("[policy]\nlower = 1", "policy.lower = 1: expected a number, >= -1000 and < 0"),
        ("[policy]\ndurations_s = [5, -1]", "policy.durations_s[1] = -1: expected a number, > 0"),
        ("[policy]\ndurations_s = 5", "policy.durations_s = 5: expected a list, each a number"),
        ("[policy]\nbreaker_lan_share = 2", "policy.breaker_lan_share = 2: expected a number, >="),
        ("[enforce]\nsynproxy = 1", "enforce.synproxy = 1: expected true or false"),
        ("enforce = 1", "enforce = 1: expected a table, as in [enforce]"),
        ("[trigger.bindings]\n'192.0.2.1' = 3", "trigger.bindings = {'192.0.2.1': 3}: expected a"),
        (
            'mode = "offloded"',
            'mode = "offloded": expected one of "gateway-only", "offloaded"; did you mean "offl',
        ),
        (
            '[failure]\non_overload = ["x"]',
            'failure.on_overload[0] = "x": expected one of "cleared", "suspect", "unnamed"',
        ),
        ("group = 1979-05-27", "group = 1979-05-27: expected a text"),
    ],
)
def test_values_are_refused_with_place_and_expectation(read, more: str, line: str) -> None:
    assert refusal(read, GOOD + more).startswith(line)


def test_interfaces_are_needed(read) -> None:
    assert refusal(read, 'model = "m"').startswith("interfaces is missing: a list, each a text")


def test_paper_fixes_the_published_behaviour(read) -> None:
    config = read('profile = "paper"\n' + GOOD)
    assert config.policy.kind == "per_packet"
    assert set(config.policy.priors.values()) == {0.0} and "dos" in config.policy.priors
    assert config.trigger.kind == "always" and config.node.transport == "json"
    assert config.trigger.dos.enabled and not config.trigger.udp_rate.enabled
    assert not config.enforce.synproxy


def test_paper_with_a_node_keeps_its_prescreener(read) -> None:
    text = 'profile = "paper"\n' + GOOD + '[node]\naddresses = ["n:1"]\nplaintext = true\n'
    assert read(text, mode="offloaded").trigger.kind == "embedded"
    assert read(text).trigger.kind == "always"


def test_paper_inline_drops_packets_and_does_nothing_about_senders(read) -> None:
    held = 'profile = "paper"\n' + GOOD + "[inline]\nenabled = true\n"
    config = read(held)
    assert (config.inline.drop, config.inline.bypass) == ("packet", False)
    assert config.enforce.ceiling == "observe"
    assert read('profile = "paper"\n' + GOOD).enforce.ceiling == "quarantine"
    line = refusal(read, held + '[enforce]\nceiling = "quarantine"\n')
    assert line.startswith("enforce.ceiling") and "contradicts" in line
    assert "inline" in refusal(read, GOOD + "inline = 3\n")


def test_paper_presets_what_a_file_may_choose(read) -> None:
    text = 'profile = "paper"\n' + GOOD + '[node]\ntransport = "binary"\n'
    assert read(text).node.transport == "binary"


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ('[policy]\nkind = "sequential"', 'policy.kind = "sequential"'),
        ("[policy.priors]\ndos = 1", "policy.priors = {'dos': 1}"),
        ("[trigger.udp_rate]\nenabled = true", "trigger.udp_rate.enabled = true"),
        ("[trigger.dos]\nenabled = false", "trigger.dos.enabled = false"),
        ('[trigger]\nkind = "embedded"', 'trigger.kind = "embedded"'),
    ],
)
def test_paper_and_what_contradicts_it(read, more: str, place: str) -> None:
    line = refusal(read, 'profile = "paper"\n' + GOOD + more)
    assert line.startswith(f'{place} contradicts profile = "paper"')
    # Without the profile the very same is welcome.
    read(GOOD + more)


def test_paper_said_twice_is_no_contradiction(read) -> None:
    text = 'profile = "paper"\n' + GOOD + '[policy]\nkind = "per_packet"\npriors = { dos = 0 }\n'
    assert read(text).policy.kind == "per_packet"


def test_several_contradictions_are_counted(read) -> None:
    line = refusal(read, 'interfaces = ["eth1"]\nmode = "offloaded"\n')
    assert line.startswith('mode = "offloaded" needs node.addresses') and "(and 2 more)" in line


keys = st.sampled_from(["interfaces", "model", "mode", "trigger", "dos", "syns", "node", "x"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)


def spelled(value: object) -> str:
    """Return TOML for what hypothesis made; None becomes a date, which no setting takes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {spelled(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(spelled, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08X}" for c in value) + '"'
    if isinstance(value, bool):
        return str(value).lower()
    return "1979-05-27" if value is None else repr(value)


@given(st.dictionaries(keys, values, max_size=4))
def test_whatever_stands_in_the_file_ends_well_or_in_one_line(tmp_path_factory, table) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text("".join(f"{k} = {spelled(v)}\n" for k, v in table.items()), "utf-8")
    try:
        config = load(path)
    except ConfigError as error:
        assert "\n" not in str(error) and len(str(error)) < 600
    else:
        assert config.interfaces


def test_path_may_be_a_text(read, tmp_path) -> None:
    read(GOOD)
    assert load(str(Path(tmp_path, "gateway.toml"))).interfaces == ("eth1",)
