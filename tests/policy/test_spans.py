"""Ranges of addresses against the standard library's networks."""

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from ids_appliance.policy.spans import Network, of_network, of_subject
from ids_appliance.types import Kind, Subject

networks = st.one_of(
    st.builds(
        lambda a, p: ipaddress.ip_network((a, p), strict=False),
        st.integers(0, 2**32 - 1) | st.sampled_from([0, 0xC0000200, 0xC0000280]),
        st.integers(0, 32),
    ),
    st.builds(
        lambda a, p: ipaddress.IPv6Network((a, p), strict=False),
        st.integers(0, 2**128 - 1) | st.sampled_from([0, 0x20010DB8 << 96]),
        st.integers(0, 128),
    ),
)
addresses = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)


@given(networks, networks)
def test_overlap(one: Network, other: Network) -> None:
    expected = one.version == other.version and one.overlaps(other)  # type: ignore[arg-type]
    assert of_network(one).overlaps(of_network(other)) is expected


@given(networks, addresses)
def test_membership(network: Network, address: bytes) -> None:
    assert of_network(network).has(address) is (ipaddress.ip_address(address) in network)
    assert not of_network(network).has(b"")


@given(addresses)
def test_subjects(address: bytes) -> None:
    kind = Kind.IPV4 if len(address) == 4 else Kind.IPV6
    span = of_subject(Subject(kind, address[:8]))
    whole = ipaddress.ip_network((address, 32 if kind is Kind.IPV4 else 64), strict=False)
    assert span == of_network(whole)
    assert of_subject(Subject(Kind.FLOOD, address, port=1)) == of_network(
        ipaddress.ip_network(ipaddress.ip_address(address))
    )
    assert of_subject(Subject(Kind.MAC, bytes(6))) is None
