"""A directory on a gateway or node in, a key that never leaves it and a request for signing out.

NAME.key   made here, kept over renewals
NAME.csr   the request (PKCS#10) for `certs sign`, where the authority is
NAME.crt   what came back
ca.crt     the authority that both ends trust; where it is there, NAME.crt has to be its
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import NameOID

from ids_appliance.classify.certificates import check_name, host_name, write, write_key
from ids_appliance.errors import CertificateError


def needed(directory: Path, name: str, *, hosts: Sequence[str], by: datetime) -> str:
    """Return why a certificate has to be asked for, empty if NAME.crt serves until `by`.

    Raises CertificateError for a name or host that cannot be one."""
    check_name(name)
    wanted = {host_name(host) for host in hosts}
    try:
        certificate = x509.load_pem_x509_certificate((directory / f"{name}.crt").read_bytes())
    except OSError:
        return "there is no certificate"
    except ValueError:
        return "the certificate is damaged"
    try:
        key = _read_key(directory / f"{name}.key")
    except CertificateError as error:
        return str(error)
    if key is None or key.public_key() != certificate.public_key():
        return "the certificate is not of this key"
    if certificate.not_valid_after_utc < by:
        return f"the certificate ends {certificate.not_valid_after_utc:%Y-%m-%d %H:%M}"
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return "the certificate is for no host"
    if missing := wanted - set(names.value):
        return "the certificate lacks " + ", ".join(sorted(str(m.value) for m in missing))
    return _foreign(directory / "ca.crt", certificate)


def ask(directory: Path, name: str) -> Path:
    """Write NAME.csr, and NAME.key where there is none; return the request's path.

    Raises CertificateError if something cannot be read or written, or the key is of another kind.
    """
    check_name(name)
    key = _read_key(directory / f"{name}.key")
    if key is None:
        key = ec.generate_private_key(ec.SECP256R1())
        write_key(directory / f"{name}.key", key)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    signed = request.sign(key, hashes.SHA256())
    path = directory / f"{name}.csr"
    write(path, signed.public_bytes(Encoding.PEM), 0o644)
    return path


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey | None:
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CertificateError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise CertificateError(f"{path} is damaged: remove it, and a new one is made") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{path} is of another kind: remove it, and a new one is made")
    return key


def _foreign(authority: Path, certificate: x509.Certificate) -> str:
    try:
        own = x509.load_pem_x509_certificate(authority.read_bytes())
    except OSError:
        return ""
    except ValueError:
        return f"{authority} is damaged"
    try:
        certificate.verify_directly_issued_by(own)
    except (ValueError, TypeError, InvalidSignature):
        return f"the certificate is not of the authority in {authority}"
    return ""
