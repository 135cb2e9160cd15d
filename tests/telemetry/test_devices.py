"""Devices are called what their owner calls them, else what they call themselves."""

from hypothesis import given
from hypothesis import strategies as st

from ids_appliance.telemetry.devices import MAX_NAMES, Devices, read_leases
from ids_appliance.telemetry.vendors import LOCAL, Vendors

VENDORS = Vendors(b"00000C Cisco\n")
LEASES = b"""1700000000 00:00:0c:00:00:01 192.0.2.10 thermostat 01:00:00:0c:00:00:01
1700000000 00:00:0c:00:00:02 192.0.2.11 * *
duid 00:01:00:01:2b:aa
1700000000 123456 2001:db8::10 camera 00:01
"""


def test_the_owners_names_come_first(tmp_path) -> None:
    (tmp_path / "leases").write_bytes(LEASES)
    names = {"00-00-0C-00-00-01": "living room", "192.0.2.20": "printer"}
    devices = Devices(names, VENDORS, leases=str(tmp_path / "leases"))
    assert devices.refresh() and not devices.refresh()
    assert devices("00:00:0c:00:00:01", "192.0.2.10") == {"name": "living room", "vendor": "Cisco"}
    assert devices("", "192.0.2.10") == {"name": "thermostat"}
    assert devices("", "192.0.2.20") == {"name": "printer"}
    assert devices("", "2001:0db8::0010") == {"name": "camera"}
    assert devices("00:00:0C:00:00:02", "") == {"vendor": "Cisco"}
    assert devices("02:00:00:00:00:02", "") == {"vendor": LOCAL}
    assert devices("", "") == devices("no mac", "no address") == {}
    assert devices.label("00:00:0c:00:00:02", "192.0.2.10") == "thermostat"
    assert devices.label("00:00:0c:00:00:02", "") == "Cisco" and devices.label("", "") == ""


def test_new_leases_are_seen_and_lost_ones_forgotten(tmp_path) -> None:
    path = tmp_path / "leases"
    devices = Devices({}, Vendors(), leases=str(path))
    assert not devices.refresh(), "no file is no trouble"
    path.write_bytes(LEASES)
    assert devices.refresh() and devices("", "192.0.2.10")
    path.write_bytes(b"")
    assert devices.refresh() and not devices("", "192.0.2.10")
    assert not Devices({}, Vendors()).refresh()


def test_names_from_the_network_are_bounded_and_clean() -> None:
    assert read_leases(b"1 00:00:0c:00:00:01 192.0.2.1 a\x1b[2Jb *")["192.0.2.1"] == "a[2Jb"
    assert len(read_leases(b"1 00:00:0c:00:00:01 192.0.2.1 " + b"x" * 999)["192.0.2.1"]) == 64
    many = b"".join(
        b"1 00:00:0c:00:%02x:%02x 10.0.%d.%d n%d *\n" % (n >> 8, n & 255, n >> 8, n & 255, n)
        for n in range(MAX_NAMES + 1000)
    )
    assert len(read_leases(many)) == 2 * MAX_NAMES


@given(st.binary() | st.text().map(str.encode))
def test_any_lease_file_is_read(text: bytes) -> None:
    assert all(name.isprintable() for name in read_leases(text).values())
