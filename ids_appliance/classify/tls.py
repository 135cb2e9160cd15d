"""Certificate files in, TLS 1.3 contexts and one-line explanations out.

Both ends show a certificate of the same authority. Its extended key usage is its role and both
roles are enforced (RFC 5280, section 4.2.1.12): clientAuth for gateways, serverAuth for nodes; one
without the extension, which OpenSSL would take for either, is refused. Session tickets are off,
because a resumed session would not look at the revocation list.
"""

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from ids_appliance.errors import CertificateError


class Role(StrEnum):
    GATEWAY = "gateway"
    NODE = "node"


# X509_V_ERR_* of OpenSSL's x509_vfy.h.
_VERIFY_ERRORS: Final = {
    3: "there is no revocation list (CRL) of its authority",
    7: "it is of another authority, which has the same name as ours",
    9: "it is not yet valid: check the clocks of both machines",
    10: "it has expired: issue a new one",
    12: "the revocation list (CRL) has expired: publish a new one",
    18: "it is self-signed, not of our authority",
    19: "it is of an unknown authority",
    20: "it is of an unknown authority",
    21: "it is of an unknown authority",
    23: "it has been revoked",
    26: "it is of the wrong role",
    62: "it belongs to another host name",
    64: "it belongs to another IP address",
}

# What the peer told us by a TLS alert (RFC 8446, section 6.2), as OpenSSL names it.
_ALERTS: Final = {
    "UNKNOWN_CA": "it does not know the authority of our certificate",
    "DECRYPT_ERROR": "it does not know the authority of our certificate",
    "CERTIFICATE_EXPIRED": "it says that our certificate has expired or is not valid now",
    "CERTIFICATE_REVOKED": "it says that our certificate has been revoked",
    "CERTIFICATE_REQUIRED": "it demands a certificate and we have shown none",
    "UNSUPPORTED_CERTIFICATE": "it says that our certificate is of the wrong role",
    "BAD_CERTIFICATE": "it does not accept our certificate: not valid now, or of the wrong role",
    "CERTIFICATE_UNKNOWN": "it does not accept our certificate",
    "PROTOCOL_VERSION": "it does not speak TLS 1.3",
}

_NOT_TLS: Final = (
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "UNSUPPORTED_PROTOCOL",
    "PACKET_LENGTH_TOO_LONG",
    "RECORD_LAYER_FAILURE",
)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files."""

    cert: Path
    key: Path
    ca: Path
    crl: Path | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a certificate is for."""

    name: str
    """Its common name: the gateway's or node's id."""
    serial: int


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Return a node's context: TLS 1.3 only, gateways' certificates mandatory.

    Raises CertificateError if a file is missing or damaged, or the certificate is not a node's or
    not valid now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0
    return _fill(context, files, Role.NODE)


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Return a gateway's context, which also checks the node's host name or address.

    Raises CertificateError as `server_context` does, for a gateway's certificate."""
    return _fill(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), files, Role.GATEWAY)


def own_identity(files: TlsFiles, role: Role) -> Identity:
    """Read our own certificate. Raises CertificateError if it is not of `role` or not valid now."""
    from ids_appliance.classify import identities  # noqa: PLC0415 - see there

    return identities.own(_read(files.cert), role, str(files.cert))


def peer_identity(tls: ssl.SSLObject, role: Role) -> Identity:
    """Return whom the verified peer certificate is for; CertificateError for a wrong role."""
    from ids_appliance.classify import identities  # noqa: PLC0415 - see there

    der = tls.getpeercert(binary_form=True)
    if der is None:
        raise CertificateError(f"the {role} has shown no certificate")
    return identities.peer(der, role)


def revoked_serials(files: TlsFiles) -> frozenset[int]:
    """Return the serial numbers in the revocation list; none without a list."""
    if files.crl is None:
        return frozenset()
    from ids_appliance.classify import identities  # noqa: PLC0415 - see there

    return identities.revoked(_read(files.crl), str(files.crl))


def explain(error: BaseException) -> str:
    """Turn an error of a TLS connection into one line without OpenSSL's source positions."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = _VERIFY_ERRORS.get(error.verify_code, error.verify_message)
        return f"the peer's certificate is refused: {why}"
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        for name, meaning in _ALERTS.items():
            if reason.endswith("ALERT_" + name):
                return f"the peer refuses us: {meaning}"
        if reason in _NOT_TLS:
            return "the peer does not speak TLS 1.3"
        if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            return "the peer has shown no certificate"
        return reason.lower().replace("_", " ") or "TLS failed"
    if isinstance(error, OSError) and error.errno is not None:
        # asyncio's own text is less clear than the system's; a resolver's numbers are below 0.
        return (os.strerror(error.errno) if error.errno > 0 else str(error.strerror)).lower()
    return str(error) or type(error).__name__


def telling(note: Callable[[str], None]) -> type[ssl.SSLObject]:
    """Return what a node's context makes its connections of (`sslobject_class`): a failed handshake
    is noted, and the peer gets the alert that says why.

    asyncio closes the socket at the first error, with the alert still in its buffer; it is sent if
    the error looks like a wait for the peer's answer. The handshake's timeout still runs.
    """

    class Telling(ssl.SSLObject):
        _failed: ssl.SSLError | None = None

        def do_handshake(self) -> None:
            if self._failed is not None:
                raise self._failed
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                self._failed = error
                note(f"TLS handshake failed: {explain(error)}")
                raise ssl.SSLWantReadError from error

    return Telling


def _fill(context: ssl.SSLContext, files: TlsFiles, role: Role) -> ssl.SSLContext:
    own_identity(files, role)
    revoked_serials(files)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(files.cert, files.key, password=_no_password)
    except (OSError, ValueError) as error:
        raise CertificateError(
            f"cannot use {files.cert} with the key {files.key}: {_reason(error)}"
        ) from error
    try:
        context.load_verify_locations(files.ca)
        if files.crl is not None:
            context.load_verify_locations(files.crl)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    except OSError as error:
        raise CertificateError(f"cannot use the authority {files.ca}: {_reason(error)}") from error
    return context


def _no_password() -> str:
    # Without this OpenSSL would ask on the terminal and a daemon would wait for ever.
    raise ValueError("the key is encrypted")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not in PEM form").lower().replace("_", " ")
    return getattr(error, "strerror", None) or str(error)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"cannot read {path}: {error.strerror}") from error
