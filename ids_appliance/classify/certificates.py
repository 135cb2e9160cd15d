"""Names and roles in, certificate files out: a small authority for the link, in one directory.

    ca.crt, ca.key       the authority; ca.key never leaves this directory
    crl.pem              what it has revoked; copy to nodes and gateways
    NAME.crt, NAME.key   one pair per gateway and node

EC P-256 keys, mode 0600. Everything is written beside and renamed, so that a reader sees the old
file or the new one.
"""

import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ids_appliance.classify.tls import Role
from ids_appliance.errors import CertificateError

CA_DAYS: Final = 3650
LEAF_DAYS: Final = 90
"""Short, so that a certificate forgotten in a CRL dies by itself."""
BACKDATE: Final = timedelta(minutes=5)
"""Certificates begin this much early: gateways without a battery clock lag behind."""

_CURVE: Final = "secp256r1"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HOST = re.compile(r"(?=.{1,253}\Z)(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")


@dataclass(frozen=True, slots=True)
class Request:
    """What a certificate is to say."""

    name: str
    """Common name and file name: the gateway's or node's id."""
    role: Role
    hosts: Sequence[str] = ()
    """DNS names and IP addresses that clients call a node by; its name is always one."""
    days: float = LEAF_DAYS
    not_before: datetime | None = None


class Authority:
    """A directory with an authority's key; `create` or `open` it."""

    def __init__(self, directory: Path, key: ec.EllipticCurvePrivateKey, own: x509.Certificate):
        self._directory = directory
        self._key = key
        self._own = own

    @classmethod
    def create(
        cls, directory: Path, name: str = "ids-appliance", *, days: int = CA_DAYS
    ) -> "Authority":
        """Make a new authority. Raises CertificateError if there is one already."""
        if not 1 <= len(name) <= 64 or not name.isprintable():
            raise CertificateError(f"{name!r} is no usable name: 1 to 64 printable characters")
        if (directory / "ca.key").exists():
            raise CertificateError(f"{directory} already holds an authority: choose another place")
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, subject, key.public_key(), _period(None, days))
        builder = builder.add_extension(x509.BasicConstraints(True, 0), critical=True)
        usage = _key_usage(key_cert_sign=True, crl_sign=True)
        builder = builder.add_extension(usage, critical=True)
        authority = cls(directory, key, builder.sign(key, hashes.SHA256()))
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise CertificateError(f"cannot create {directory}: {error.strerror}") from error
        write(directory / "ca.crt", authority._own.public_bytes(Encoding.PEM), 0o644)
        authority._publish([])
        write_key(directory / "ca.key", key)  # last: with it the authority exists
        return authority

    @classmethod
    def open(cls, directory: Path) -> "Authority":
        """Use an authority made before. Raises CertificateError if it is not all there."""
        try:
            key = load_pem_private_key((directory / "ca.key").read_bytes(), None)
            own = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
        except OSError as error:
            raise CertificateError(
                f"{directory} holds no authority ({error.strerror}): make one with `certs ca`"
            ) from error
        except (ValueError, TypeError) as error:
            raise CertificateError(f"the authority in {directory} is damaged") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise CertificateError(f"the authority in {directory} has another kind of key")
        return cls(directory, key, own)

    def issue(self, request: Request) -> tuple[Path, Path]:
        """Write a key and a certificate; return their paths (certificate, key).

        An older certificate of that name stays valid until it expires or is revoked.
        """
        check_name(request.name)
        key = ec.generate_private_key(ec.SECP256R1())
        signed = self._certify(request, key.public_key())
        paths = (self._directory / f"{request.name}.crt", self._directory / f"{request.name}.key")
        write_key(paths[1], key)
        write(paths[0], signed, 0o644)
        return paths

    def sign(self, request: Request, csr: bytes) -> Path:
        """Write a certificate for a key made elsewhere; return its path.

        `csr` (PKCS#10, PEM) shows the public key and that its sender holds the private one.
        Nothing else in it counts: name, role, hosts and period are `request`'s.
        """
        try:
            asked = x509.load_pem_x509_csr(csr)
            public = asked.public_key()
        except ValueError as error:
            raise CertificateError("that is no certificate request in PEM form") from error
        if not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != _CURVE:
            raise CertificateError(f"the request's key is not of the kind we use (EC {_CURVE})")
        if not asked.is_signature_valid:
            raise CertificateError("the request is not signed by its own key")
        signed = self._certify(request, public)
        path = self._directory / f"{request.name}.crt"
        write(path, signed, 0o644)
        return path

    def _certify(self, request: Request, public: ec.EllipticCurvePublicKey) -> bytes:
        check_name(request.name)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, request.name)])
        period = _period(request.not_before, request.days)
        builder = _builder(subject, self._own.subject, public, period)
        hosts = dict.fromkeys([request.name, *request.hosts])
        usage = (
            ExtendedKeyUsageOID.SERVER_AUTH
            if request.role is Role.NODE
            else ExtendedKeyUsageOID.CLIENT_AUTH
        )
        builder = (
            builder.add_extension(x509.BasicConstraints(False, None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([host_name(h) for h in hosts]), critical=False
            )
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def revoke(self, certificate: Path) -> int:
        """Add a certificate to the revocation list; return its serial number."""
        try:
            leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
            known = list(x509.load_pem_x509_crl((self._directory / "crl.pem").read_bytes()))
        except OSError as error:
            raise CertificateError(f"cannot read {error.filename}: {error.strerror}") from error
        except ValueError as error:
            raise CertificateError(f"{certificate} or crl.pem is damaged") from error
        try:
            # By its signature: two authorities may well have the same name.
            leaf.verify_directly_issued_by(self._own)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise CertificateError(f"{certificate} was not issued by this authority") from error
        if leaf.serial_number not in {entry.serial_number for entry in known}:
            entry = x509.RevokedCertificateBuilder().serial_number(leaf.serial_number)
            known.append(entry.revocation_date(datetime.now(UTC)).build())
            self._publish(known)
        return leaf.serial_number

    def _publish(self, revoked: Sequence[x509.RevokedCertificate]) -> None:
        # As long as the authority lives: an appliance must not stop because nobody has revoked
        # anything for a month.
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._own.subject)
            .last_update(datetime.now(UTC) - BACKDATE)
            .next_update(self._own.not_valid_after_utc)
        )
        for entry in revoked:
            builder = builder.add_revoked_certificate(entry)
        signed = builder.sign(self._key, hashes.SHA256())
        write(self._directory / "crl.pem", signed.public_bytes(Encoding.PEM), 0o644)


def check_name(name: str) -> None:
    """Raise CertificateError for what cannot be a holder's name, which is a file name as well."""
    if not _NAME.fullmatch(name) or name in ("ca", "crl"):
        raise CertificateError(
            f"{name!r} is no usable name: letters, digits, dots, hyphens; not ca, crl"
        )


def _period(not_before: datetime | None, days: float) -> tuple[datetime, datetime]:
    if not 0 < days <= CA_DAYS:
        raise CertificateError(f"a certificate is valid for more than 0 and up to {CA_DAYS} days")
    start = not_before or datetime.now(UTC) - BACKDATE
    return start, (not_before or datetime.now(UTC)) + timedelta(days=days)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    period: tuple[datetime, datetime],
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(period[0])
        .not_valid_after(period[1])
    )


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not _HOST.fullmatch(host):
        raise CertificateError(f"{host!r} is neither a host name nor an IP address")
    return x509.DNSName(host)


def write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write(path, pem, 0o600)


def write(path: Path, content: bytes, mode: int) -> None:
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.unlink(missing_ok=True)
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(handle, "wb") as file:
            os.fchmod(handle, mode)
            file.write(content)
            file.flush()
            os.fsync(handle)
        os.replace(beside, path)
    except OSError as error:
        raise CertificateError(f"cannot write {path}: {error.strerror}") from error
