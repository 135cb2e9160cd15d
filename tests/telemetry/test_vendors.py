"""Makers of devices are looked up in whatever registry the machine has."""

import re
from pathlib import Path

import pytest

from ids_appliance.telemetry.vendors import FILES, LOCAL, Vendors, installed

OUI = b"""OUI/MA-L                                                    Organization
company_id                                                  Organization

28-6F-B9   (hex)\t\tNokia Shanghai Bell Co., Ltd.
286FB9     (base 16)\t\tNokia Shanghai Bell Co., Ltd.
\t\t\t\tNo.388 Ning Qiao Road
00-00-0C   (hex)\t\tCisco Systems, Inc
"""
MANUF = b"""# comment
00:00:0C\tCisco\tCisco Systems, Inc
28:6F:B9\tNokiaSha\tNokia Shanghai Bell Co., Ltd.
00:1B:C5\tIEEERegi\tIEEE Registration Authority
00:1B:C5:00:10:00/36\tOpenRBco\tOpenRB.com, Direct SIA
08:00:30:00:00:00/28\tNetworkR
"""
NMAP = b"# c\n00000C Cisco Systems\n286FB9 Nokia Shanghai Bell\n001BC5001 OpenRB.com\n"


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


@pytest.mark.parametrize("text", [OUI, OUI.replace(b"\n", b"\r\n"), MANUF, NMAP])
def test_each_registry_is_read(text: bytes) -> None:
    vendors = Vendors(text)
    assert vendors.of(mac("28:6f:b9:01:02:03")).startswith("Nokia Shanghai Bell")
    assert vendors.of(mac("00:00:0c:ff:ff:ff")).startswith("Cisco Systems")
    assert vendors.of(mac("00:00:0d:00:00:00")) == ""


def test_the_longest_prefix_counts() -> None:
    vendors = Vendors(MANUF)
    assert vendors.of(mac("00:1b:c5:00:1f:ff")) == "OpenRB.com, Direct SIA"
    assert vendors.of(mac("00:1b:c5:00:20:00")) == "IEEE Registration Authority"
    assert vendors.of(mac("08:00:30:0f:ff:ff")) == "NetworkR"
    assert vendors.of(mac("08:00:30:10:00:00")) == ""
    assert len(vendors) == 5


def test_randomised_macs_are_named_as_such() -> None:
    assert Vendors(MANUF).of(mac("02:00:0c:00:00:01")) == LOCAL
    assert Vendors().of(mac("da:a1:19:00:00:01")) == LOCAL


@pytest.mark.parametrize("value", [b"", b"\0" * 6, b"\xff" * 6, b"\1\0\x5e\0\0\1", b"\0\0\x0c"])
def test_what_is_no_device_has_no_maker(value: bytes) -> None:
    assert Vendors(MANUF).of(value) == ""


def test_every_entry_is_found_as_by_a_dictionary() -> None:
    text = b"".join(b"%06X Maker %d\n" % (n * 4 * 97 % (1 << 24), n) for n in range(3000))
    vendors = Vendors(text)
    slow = {m[1]: m[2] for m in re.finditer(rb"(\w{6}) (.*)", text)}
    assert len(vendors) == len(slow)
    for prefix, name in slow.items():
        value = bytes.fromhex(prefix.decode()) + b"\1\2\3"
        if not value[0] & 3:
            assert vendors.of(value) == name.decode()


def test_junk_is_passed_over_and_names_are_cut() -> None:
    text = bytes(range(256)) * 50 + b"\n000000/99\tx\n00000C " + b"y" * 500 + b"\n00 1\n"
    assert Vendors(text).of(mac("00:00:0c:00:00:00")) == "y" * 64


def test_the_first_file_that_is_there_is_taken(tmp_path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "nmap").write_bytes(NMAP)
    files = [str(tmp_path / name) for name in ("none", "empty", "nmap")]
    assert len(installed(files)) == 3
    assert len(installed([])) == 0


def test_the_registry_of_this_machine() -> None:
    if not any(Path(name).is_file() for name in FILES):
        pytest.skip("this machine has no registry of MAC prefixes")
    assert installed().of(mac("b8:27:eb:00:00:01")).startswith("Raspberry Pi")
