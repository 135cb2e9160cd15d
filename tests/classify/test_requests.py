"""Keys that stay where they are made: requests, their answers, and when a new one is needed."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from ids_appliance.classify import requests
from ids_appliance.classify.certificates import Authority, Request
from ids_appliance.classify.tls import Role, TlsFiles, client_context, server_context
from ids_appliance.cli import main
from ids_appliance.errors import CertificateError

NOW = datetime.now(UTC)
SOON = NOW + timedelta(days=30)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "pki")


def answered(host: Path, authority: Authority, request: Request) -> None:
    """Ask on the host, sign at the authority, bring certificate and authority back."""
    host.mkdir(exist_ok=True)
    signed = authority.sign(request, requests.ask(host, request.name).read_bytes())
    (host / signed.name).write_bytes(signed.read_bytes())
    (host / "ca.crt").write_bytes((signed.parent / "ca.crt").read_bytes())


def files(host: Path, name: str) -> TlsFiles:
    return TlsFiles(host / f"{name}.crt", host / f"{name}.key", host / "ca.crt")


def test_a_signed_request_serves_in_its_role_only(tmp_path: Path, authority: Authority) -> None:
    answered(tmp_path / "n", authority, Request("node1", Role.NODE, hosts=["192.0.2.10"]))
    answered(tmp_path / "g", authority, Request("gw1", Role.GATEWAY))
    server_context(files(tmp_path / "n", "node1"))
    client_context(files(tmp_path / "g", "gw1"))
    with pytest.raises(CertificateError):
        client_context(files(tmp_path / "n", "node1"))
    assert not list((tmp_path / "pki").glob("node1.key"))
    assert (tmp_path / "n" / "node1.key").stat().st_mode & 0o777 == 0o600


def test_nothing_is_needed_until_it_ends_soon(tmp_path: Path, authority: Authority) -> None:
    host = tmp_path / "h"
    assert requests.needed(host, "gw1", hosts=[], by=SOON) == "there is no certificate"
    answered(host, authority, Request("gw1", Role.GATEWAY, hosts=["192.0.2.1"], days=40))
    assert requests.needed(host, "gw1", hosts=["192.0.2.1"], by=SOON) == ""
    late = NOW + timedelta(days=41)
    assert "ends" in requests.needed(host, "gw1", hosts=[], by=late)
    assert "lacks 192.0.2.2" in requests.needed(host, "gw1", hosts=["192.0.2.2"], by=SOON)


def test_another_authority_or_key_asks_anew(tmp_path: Path, authority: Authority) -> None:
    host = tmp_path / "h"
    answered(host, authority, Request("gw1", Role.GATEWAY))
    Authority.create(tmp_path / "other")
    (host / "ca.crt").write_bytes((tmp_path / "other" / "ca.crt").read_bytes())
    assert "not of the authority" in requests.needed(host, "gw1", hosts=[], by=SOON)
    (host / "gw1.key").unlink()
    requests.ask(host, "gw1")
    assert "not of this key" in requests.needed(host, "gw1", hosts=[], by=SOON)


def test_a_renewal_keeps_the_key(tmp_path: Path) -> None:
    requests.ask(tmp_path, "gw1")
    key = (tmp_path / "gw1.key").read_bytes()
    requests.ask(tmp_path, "gw1")
    assert (tmp_path / "gw1.key").read_bytes() == key


@pytest.mark.parametrize("csr", [b"", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n", b"\xff" * 99])
def test_what_is_no_request_is_refused(authority: Authority, csr: bytes) -> None:
    with pytest.raises(CertificateError, match="no certificate request"):
        authority.sign(Request("gw1", Role.GATEWAY), csr)


def test_another_kind_of_key_is_refused(authority: Authority) -> None:
    key = rsa.generate_private_key(65537, 2048)
    csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    with pytest.raises(CertificateError, match="not of the kind"):
        authority.sign(
            Request("gw1", Role.GATEWAY), csr.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
        )


def test_a_request_signed_by_another_key_is_refused(tmp_path: Path, authority: Authority) -> None:
    csr = x509.load_pem_x509_csr(requests.ask(tmp_path, "gw1").read_bytes())
    raw = bytearray(csr.public_bytes(Encoding.DER))
    raw[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(raw)).public_bytes(Encoding.PEM)
    with pytest.raises(CertificateError, match="not signed by its own key"):
        authority.sign(Request("gw1", Role.GATEWAY), forged)


def test_the_commands_speak_to_each_other(tmp_path: Path) -> None:
    host, pki = tmp_path / "host", tmp_path / "pki"
    host.mkdir()

    def certs(*words: str) -> str:
        done = CliRunner().invoke(main, ["certs", *words])
        assert done.exit_code == 0, done.output
        return done.output

    certs("ca", str(pki))
    ask = ["request", str(host), "node1", "--host", "192.0.2.10"]
    assert certs(*ask, "--dry-run") == "needed: there is no certificate\n"
    assert not any(host.iterdir())
    assert certs(*ask).startswith(f"made: {host}/node1.csr")
    signed = certs("sign", str(pki), "node1", f"{host}/node1.csr", "--role", "node", *ask[-2:])
    (host / "node1.crt").write_bytes(Path(signed.strip()).read_bytes())
    assert certs(*ask) == f"good: {host}/node1.crt\n"
