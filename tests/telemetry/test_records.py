"""Whatever an event holds becomes one bounded line of JSON without payloads and secrets."""

import enum
import ipaddress
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ids_appliance.telemetry.records import MAX_LINE, Head, line, plain, timestamp
from ids_appliance.types import Response
from tests.examples import examples

HEAD = Head("decision", "a-1", 1_700_000_000_000_000_000, "gw")


def record(describe=None, **fields) -> dict:
    return json.loads(line(HEAD, fields, describe))


def test_addresses_and_macs_may_be_bytes() -> None:
    found = record(
        src_ip=bytes([192, 0, 2, 7]),
        dest_ip=ipaddress.ip_address("2001:db8::1").packed,
        src_mac=bytes.fromhex("02005e005301"),
        dest_mac=b"",
        interface="eth1",
        vlan=np.uint16(7),
    )
    assert found["src_ip"] == "192.0.2.7" and found["dest_ip"] == "2001:db8::1"
    assert found["src_mac"] == "02:00:5e:00:53:01" and "dest_mac" not in found
    assert (found["interface"], found["vlan"]) == ("eth1", 7)
    assert found["decision"] == {}


def test_a_whole_flow_has_its_community_id() -> None:
    flow = {"src_ip": "128.232.110.120", "src_port": 34855, "dest_ip": "66.35.250.204"}
    expected = "1:LQU9qZlK+B5F3KDmev6m5PMibrg="
    assert record(**flow, dest_port=80, proto="TCP")["community_id"] == expected
    assert record(**flow, dest_port=80, proto=6)["community_id"] == expected
    assert record(**flow, dest_port=80, community_id="1:given")["community_id"] == "1:given"
    for incomplete in ({"dest_port": 80}, {"proto": "tcp"}, {"dest_port": 70_000, "proto": "tcp"}):
        assert "community_id" not in record(**flow, **incomplete)
    assert "community_id" not in record(
        src_ip="192.0.2.1", dest_ip="2001:db8::1", src_port=1, dest_port=2, proto="tcp"
    )


def test_devices_have_name_and_vendor_where_known() -> None:
    asked = []

    def describe(mac: str, address: str) -> dict[str, str]:
        asked.append((mac, address))
        return {"name": "plug", "vendor": "", "other": "x"}

    found = record(describe, src_mac="02:00:5e:00:53:01", src_ip="192.0.2.7")
    assert found["device"] == {"name": "plug"}
    assert asked == [("02:00:5e:00:53:01", "192.0.2.7")]
    assert "device" not in record(lambda mac, address: {})


def test_secrets_are_hidden_and_payloads_left_out() -> None:
    found = record(
        token="abc", nested={"Password": "x", "privateKey": "y"}, key="rule key", payload=b"x" * 40
    )["decision"]
    assert found["token"] == found["nested"]["Password"] == "(hidden)"
    assert found["nested"]["privateKey"] == "(hidden)"
    assert found["key"] == "rule key" and found["payload"] == "(40 bytes)"


def test_what_our_own_types_become() -> None:
    class Shade(enum.Enum):
        DARK = 1

    @dataclass
    class Pair:
        left: int
        right: Shade

    class Row(msgspec.Struct):
        n: int

    assert plain(Pair(1, Shade.DARK)) == {"left": 1, "right": "dark"}
    assert plain(Row(3)) == {"n": 3}
    assert plain(Response.RATE_LIMIT) == "rate_limit"
    assert plain(np.float64("nan")) is None and plain(np.uint64(5)) == 5
    assert plain(10**30) is None and plain(float("inf")) is None
    assert plain(b"\x01\x02") == "0102" and plain(Path("/x")) == "/x"
    assert plain(object()) == "(object)"
    assert plain([[[[[[1]]]]]]) == [[[["(list)"]]]]


def test_a_record_that_is_too_large_keeps_who_and_when() -> None:
    found = record(src_ip="192.0.2.7", rows=[["x" * 500] * 60] * 60)
    assert found["decision"]["truncated_bytes"] > MAX_LINE and found["src_ip"] == "192.0.2.7"


def test_all_counters_of_an_appliance_find_room() -> None:
    counters = {f"some_counter_with_a_long_name_{n}": 10**9 + n for n in range(300)}
    assert record(counters=counters)["decision"]["counters"] == counters


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000+00:00"),
        (1_700_000_000_123_456_789, "2023-11-14T22:13:20.123456+00:00"),
        (-5, "1970-01-01T00:00:00.000000+00:00"),
        (1 << 63, "2262-04-11T23:47:16.854775+00:00"),
        (1 << 80, "9999-12-31T23:59:59.000000+00:00"),
    ],
)
def test_times_have_microseconds_and_a_zone(ns: int, text: str) -> None:
    assert timestamp(ns) == text
    assert datetime.fromisoformat(text).utcoffset() is not None


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.text(st.characters(categories=["Cs", "Cc"]), max_size=2000)
    | st.binary(max_size=64),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner)
    ),
    max_leaves=40,
)
names = st.sampled_from(
    ["src_ip", "dest_ip", "src_mac", "src_port", "dest_port", "proto", "interface", "vlan", "rule"]
)


@examples(200)
@given(st.dictionaries(names | st.text(), anything), st.text(max_size=300), st.integers())
def test_every_line_is_json_and_bounded(fields, host, ns) -> None:
    text = line(Head("trigger", "a-1", ns, host), fields)
    assert len(text) <= MAX_LINE and text.endswith(b"\n") and text.count(b"\n") == 1
    found = json.loads(text.decode("utf-8"))
    assert found["event_type"] == "trigger" and "trigger" in found
    datetime.fromisoformat(found["timestamp"])
    assert not any(0 <= byte < 32 for byte in text[:-1]), "nothing that acts on a terminal"
