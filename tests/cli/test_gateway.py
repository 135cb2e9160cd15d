"""What the `gateway` command puts together from a configuration."""

from ids_appliance.cli.gateway import known_devices
from ids_appliance.config import Config

MAC, OTHER = "02:00:5e:00:53:01", "02:00:5e:00:53:02"


def test_devices_have_the_names_of_the_configuration_and_of_the_lease_file(tmp_path):
    leases = tmp_path / "leases"
    leases.write_text(f"1700000000 {MAC} 192.0.2.7 plug *\n1700000000 {OTHER} 192.0.2.8 tv *\n")
    config = Config(interfaces=("lan0",), names={OTHER: "television"}, leases=str(leases))
    devices = known_devices(config)
    devices.refresh()
    assert devices(MAC, "")["name"] == devices("", "192.0.2.7")["name"] == "plug"
    assert devices(OTHER, "")["name"] == "television"
