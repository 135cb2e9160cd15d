"""X.509 certificates and revocation lists in, whom they are for out; or one line on what is wrong.

Apart from `tls`, and imported by it only where a certificate is read: cryptography takes 10 MB of
memory, which a gateway that judges alone can do without.
"""

from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ids_appliance.classify.tls import Identity, Role
from ids_appliance.errors import CertificateError

_USAGE: Final = {
    Role.GATEWAY: ExtendedKeyUsageOID.CLIENT_AUTH,
    Role.NODE: ExtendedKeyUsageOID.SERVER_AUTH,
}


def own(pem: bytes, role: Role, place: str) -> Identity:
    """Return whom our own certificate is for; place: its file, for what is said.

    Raises CertificateError: not a certificate, not of `role`, not valid now."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise CertificateError(f"{place} is not a certificate in PEM form") from error
    now = datetime.now(UTC)
    if now < certificate.not_valid_before_utc:
        since = certificate.not_valid_before_utc.isoformat(" ", "seconds")
        raise CertificateError(
            f"our certificate {place} is not yet valid: it begins {since}; check the clock"
        )
    if now > certificate.not_valid_after_utc:
        until = certificate.not_valid_after_utc.isoformat(" ", "seconds")
        raise CertificateError(f"our certificate {place} has expired {until}: issue a new one")
    return _identity(certificate, role, f"our certificate {place}")


def peer(der: bytes, role: Role) -> Identity:
    """Return whom a verified peer's certificate is for; CertificateError for a wrong role."""
    try:
        certificate = x509.load_der_x509_certificate(der)
    except ValueError as error:
        raise CertificateError(f"the {role}'s certificate is malformed") from error
    return _identity(certificate, role, f"the {role}'s certificate")


def revoked(pem: bytes, place: str) -> frozenset[int]:
    """Return the serial numbers in a revocation list. Raises CertificateError: it is none."""
    try:
        return frozenset(entry.serial_number for entry in x509.load_pem_x509_crl(pem))
    except ValueError as error:
        raise CertificateError(f"{place} is not a revocation list in PEM form") from error


def _identity(certificate: x509.Certificate, role: Role, whose: str) -> Identity:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError) as error:
        raise CertificateError(f"{whose} has no role (extended key usage)") from error
    if _USAGE[role] not in usage:
        raise CertificateError(f"{whose} is of the wrong role: it is not a {role}'s")
    name = names[0].value if len(names) == 1 else ""
    if not isinstance(name, str) or not 1 <= len(name.encode()) <= 64 or not name.isprintable():
        raise CertificateError(f"{whose} has no usable common name")
    return Identity(name, certificate.serial_number)
