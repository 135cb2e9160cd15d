"""Certificates: roles both ways, time, revocation, reload; and one clear line for each refusal."""

import contextlib
import datetime
import os
import signal
import socket
import ssl
import stat
import time

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from ids_appliance import _wire as wire
from ids_appliance.classify.certificates import Authority, Request
from ids_appliance.classify.remote import LinkOptions, RemoteClassifier
from ids_appliance.classify.tls import Role, TlsFiles, client_context, server_context
from ids_appliance.cli import main
from ids_appliance.errors import CertificateError, HandshakeError, LinkError, NodeUnreachable
from ids_appliance.schema import SCHEMA_HASH
from ids_appliance.types import AnswerStatus
from tests.bundles import random_rows
from tests.classify.nodes import collect, make_request

DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture
def authority(tmp_path):
    """An authority of its own for each test."""
    return Authority.create(tmp_path / "ca")


@pytest.fixture
def files(authority, tmp_path):
    """Issue a certificate and return what `TlsFiles` takes; other roles and times on request."""

    def make(name, role, *, own=authority, crl=True, **request):
        request.setdefault("hosts", ("127.0.0.1", "localhost"))
        cert, key = own.issue(Request(name, role, **request))
        directory = cert.parent
        ca = tmp_path / "ca" / "ca.crt"
        return TlsFiles(cert, key, ca, directory / "crl.pem" if crl else None)

    return make


@pytest.fixture
def tls_node(files, start_node):
    """Start a node with a certificate; `files` of it on request."""

    def start(node_files=None):
        f = node_files or files("node-1", Role.NODE)
        options = ["--cert", f.cert, "--key", f.key, "--ca", f.ca]
        return start_node(options=options + (["--crl", f.crl] if f.crl else []))

    return start


def connect(node, tls, **options):
    options = {"connect_timeout_s": 30.0, "deadline_s": 30.0, "probe_s": 30.0} | options
    return RemoteClassifier.connect([node.address], LinkOptions(tls=tls, **options))


def refused(node, tls, *, error=LinkError):
    with pytest.raises(error) as raised:
        connect(node, tls).close()
    text = str(raised.value)
    assert "\n" not in text and "_ssl.c" not in text
    return text


def edit(files, change):
    """Sign the certificate of `files` again, with a change."""
    old = x509.load_pem_x509_certificate(files.cert.read_bytes())
    key = load_pem_private_key((files.ca.parent / "ca.key").read_bytes(), None)
    ca = x509.load_pem_x509_certificate(files.ca.read_bytes())
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(ca.subject)
        .public_key(old.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(old.not_valid_before_utc)
        .not_valid_after(old.not_valid_after_utc)
    )
    for extension in old.extensions:
        if not isinstance(extension.value, change):
            builder = builder.add_extension(extension.value, critical=extension.critical)
    files.cert.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    return files


def test_tls_1_3_and_names(tls_node, files, small_bundle):
    node = tls_node()
    with connect(node, files("gw-7", Role.GATEWAY)) as link:
        assert link.gateway_id == "gw-7"
        assert link._session._transport.get_extra_info("ssl_object").version() == "TLSv1.3"
        assert link.submit(make_request(1, small_bundle, random_rows(1, 2000)))
        assert collect(link, 1)[1].status is AnswerStatus.ANSWERED
    node.wait_for("gateway gw-7 connected")


def test_a_gateway_that_lies_about_its_name(tls_node, files, monkeypatch):
    node = tls_node()
    tls = files("gw-1", Role.GATEWAY)
    real = wire.encode_hello
    monkeypatch.setattr(wire, "encode_hello", lambda name, *a, **k: real("gw-2", *a, **k))
    assert "belongs to gw-1, not to gw-2" in refused(node, tls, error=CertificateError)


def test_roles_of_our_own_certificate(files):
    with pytest.raises(CertificateError, match="wrong role: it is not a node's"):
        server_context(files("gw", Role.GATEWAY))
    with pytest.raises(CertificateError, match="wrong role: it is not a gateway's"):
        client_context(files("node", Role.NODE))


def without_own_check(monkeypatch):
    monkeypatch.setattr("ids_appliance.classify.tls.own_identity", lambda f, role: None)
    identity = type("Anyone", (), {"name": "anyone"})
    monkeypatch.setattr("ids_appliance.classify.remote.own_identity", lambda f, role: identity)


@pytest.mark.parametrize("usage", ["wrong", "none"])
def test_the_node_checks_the_gateway_s_role(tls_node, files, monkeypatch, usage):
    node = tls_node()
    if usage == "wrong":
        tls = files("impostor", Role.NODE)
    else:
        tls = edit(files("impostor", Role.GATEWAY), x509.ExtendedKeyUsage)
    without_own_check(monkeypatch)
    text = refused(node, tls, error=CertificateError)
    assert "wrong role" in text or "no role" in text
    expected = "it is of the wrong role" if usage == "wrong" else "has no role"
    node.wait_for(expected)


NO_CHECK = """
import ids_appliance.classify.tls as tls, ids_appliance.classify.certificates as c
import ids_appliance.cli.classifier as command
tls.own_identity = lambda f, role: tls.Identity("impostor", 1)
command.own_identity = tls.own_identity
from ids_appliance.cli import main
main()
"""


@pytest.mark.parametrize("usage", ["wrong", "none"])
def test_the_gateway_checks_the_node_s_role(tls_node, files, monkeypatch, usage):
    if usage == "wrong":
        impostor = files("impostor", Role.GATEWAY)
    else:
        impostor = edit(files("impostor", Role.NODE), x509.ExtendedKeyUsage)
    monkeypatch.setattr("tests.classify.nodes.START", NO_CHECK)
    node = tls_node(impostor)
    text = refused(node, files("gw", Role.GATEWAY), error=CertificateError)
    assert "wrong role" in text or "has no role" in text


def test_not_yet_valid_and_expired(tls_node, files, monkeypatch):
    early = files("early", Role.GATEWAY, not_before=NOW + 2 * DAY, days=3)
    late = files("late", Role.GATEWAY, not_before=NOW - 5 * DAY, days=3)
    with pytest.raises(CertificateError, match="not yet valid"):
        client_context(early)
    with pytest.raises(CertificateError, match="has expired"):
        client_context(late)
    node = tls_node()
    without_own_check(monkeypatch)
    assert "not valid now" in refused(node, early, error=CertificateError)
    node.wait_for("it is not yet valid")
    assert "has expired" in refused(node, late, error=CertificateError)
    node.wait_for("it has expired")


def test_a_node_whose_certificate_is_not_valid_now(files, tls_node, monkeypatch):
    monkeypatch.setattr("tests.classify.nodes.START", NO_CHECK)
    gateway = files("gw", Role.GATEWAY)
    for days, text in ((2, "not yet valid"), (-5, "has expired")):
        node = tls_node(files("n", Role.NODE, not_before=NOW + days * DAY, days=3))
        assert text in refused(node, gateway, error=CertificateError)


@pytest.mark.parametrize("name", ["other", "ids-appliance"])
def test_an_unknown_authority(tls_node, files, tmp_path, name):
    node = tls_node()
    other = Authority.create(tmp_path / "other", name)
    stranger = files("gw", Role.GATEWAY, own=other, crl=False)
    text = refused(node, stranger)
    assert "does not know the authority" in text
    node.wait_for("unknown authority" if name == "other" else "another authority")
    cert, key = other.issue(Request("gw", Role.GATEWAY))
    trusting = TlsFiles(cert, key, tmp_path / "other" / "ca.crt")
    assert "authority" in refused(node, trusting, error=CertificateError)


def test_a_node_called_by_a_name_it_does_not_have(tls_node, files):
    node = tls_node(files("node-1", Role.NODE, hosts=("node.example",)))
    text = refused(node, files("gw", Role.GATEWAY), error=CertificateError)
    assert "another IP address" in text


def test_revoked_while_connected(tls_node, files, authority, small_bundle):
    node = tls_node()
    bad, good = files("bad", Role.GATEWAY), files("good", Role.GATEWAY)
    options = dict(deadline_s=0.5, backoff_s=(0.05, 0.1))
    with connect(node, bad, **options) as revoked, connect(node, good) as innocent:
        authority.revoke(bad.cert)
        node.signal(signal.SIGHUP)
        node.wait_for("certificates read again")
        node.wait_for("it has been revoked")  # it comes back and is not let in
        assert revoked.submit(make_request(1, small_bundle, random_rows(1, 2)))
        assert collect(revoked, 1)[1].status is AnswerStatus.UNANSWERED
        assert innocent.submit(make_request(1, small_bundle, random_rows(1, 2)))
        assert collect(innocent, 1)[1].status is AnswerStatus.ANSWERED
        assert innocent.counters()["reconnects"] == 0
    assert "has been revoked" in refused(node, bad, error=CertificateError)


def test_revoked_in_the_middle_of_the_handshake(tls_node, files, authority):
    """Who begins with the old list and ends after the reload does not get in either."""
    node = tls_node()
    bad = files("bad", Role.GATEWAY)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context(bad).wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with socket.create_connection(node.address, timeout=60) as peer:
        done = False
        while not done:
            try:
                tls.do_handshake()
                done = True  # our certificate lies in `outgoing`
            except ssl.SSLWantReadError:
                peer.sendall(outgoing.read())
                incoming.write(peer.recv(65536))
        authority.revoke(bad.cert)
        node.signal(signal.SIGHUP)
        node.wait_for("certificates read again")
        tls.write(wire.encode_hello("bad", SCHEMA_HASH))
        peer.sendall(outgoing.read())
        while True:
            try:
                first = tls.read(65536)
                break
            except ssl.SSLWantReadError:
                incoming.write(peer.recv(65536))
    (error,) = wire.Decoder(True).feed(first)
    assert error.code == wire.ERROR_ROLE and "revoked" in error.text


def test_one_gateway_does_not_take_all_connections(tls_node, files):
    node = tls_node()
    greedy = files("greedy", Role.GATEWAY)
    with contextlib.ExitStack() as held:
        for _ in range(16):
            held.enter_context(connect(node, greedy))
        assert "16 connections already" in refused(node, greedy, error=NodeUnreachable)
        connect(node, files("modest", Role.GATEWAY)).close()


def test_a_revoked_node(tls_node, files, authority):
    server = files("node-1", Role.NODE)
    node = tls_node(server)
    authority.revoke(server.cert)
    text = refused(node, files("gw", Role.GATEWAY), error=CertificateError)
    assert "revoked" in text


def test_a_new_certificate_without_restart(tls_node, files, authority, small_bundle):
    first = files("node-1", Role.NODE)
    node = tls_node(first)
    gateway = files("gw", Role.GATEWAY)
    with connect(node, gateway) as link:
        old = first.cert.read_bytes()
        authority.issue(Request("node-1", Role.NODE, hosts=("127.0.0.1",)))
        assert first.cert.read_bytes() != old
        node.signal(signal.SIGHUP)
        node.wait_for("certificates read again")
        with connect(node, gateway) as second:
            der = second._session._transport.get_extra_info("ssl_object").getpeercert(True)
            new = x509.load_pem_x509_certificate(first.cert.read_bytes())
            assert der == new.public_bytes(Encoding.DER)
        assert link.counters()["reconnects"] == 0
        first.cert.write_text("damaged")
        node.signal(signal.SIGHUP)
        node.wait_for("the old certificates stay")
    with connect(node, gateway) as link:
        assert link.submit(make_request(1, small_bundle, random_rows(1, 2)))


def test_why_a_link_that_stood_is_gone_is_known(tls_node, files):
    """Else a certificate that has expired looks like a node that is switched off."""
    node, tls = tls_node(), files("gw", Role.GATEWAY)
    with connect(node, tls) as link:
        assert link.trouble == ""
        files("gw", Role.GATEWAY, not_before=NOW - 9 * DAY, days=5)
        node.kill()
        until = time.monotonic() + 60
        while "our certificate" not in link.trouble:
            assert time.monotonic() < until, link.trouble
            time.sleep(0.01)
        assert "has expired" in link.trouble and "\n" not in link.trouble


def test_plaintext_and_tls_do_not_mix(tls_node, files, plain_node):
    node = tls_node()
    text = refused(node, None, error=HandshakeError)
    assert "TLS" in text
    text = refused(plain_node, files("gw", Role.GATEWAY), error=CertificateError)
    assert "does not speak TLS" in text


def test_the_handshake_timeout(tls_node, files):
    # A listener that never answers the TLS handshake is unreachable, not a hang.
    node = tls_node()
    node.hang()
    began = time.monotonic()
    with pytest.raises(NodeUnreachable, match="does not answer"):
        connect(node, files("gw", Role.GATEWAY), connect_timeout_s=0.3)
    assert time.monotonic() - began < 60.0
    node.resume()


@pytest.mark.parametrize("part", ["cert", "key", "ca", "crl"])
@pytest.mark.parametrize("content", [None, "", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_files_that_are_missing_or_damaged(files, part, content):
    tls = files("gw", Role.GATEWAY)
    path = getattr(tls, part)
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(CertificateError) as raised:
        client_context(tls)
    assert "\n" not in str(raised.value)


def test_a_key_of_another_certificate(files):
    one, two = files("one", Role.GATEWAY), files("two", Role.GATEWAY)
    with pytest.raises(CertificateError, match="key"):
        client_context(TlsFiles(one.cert, two.key, one.ca))


# ------------------------------------------------------------------------------------ command


def run(*arguments, ok=True):
    done = CliRunner().invoke(main, [str(a) for a in arguments])
    assert done.exit_code == (0 if ok else 2), done.output
    assert "PRIVATE" not in done.output
    if not ok:
        assert done.output.count("\n") == 1, done.output
    return done.output


def test_certs_command(tmp_path, start_node):
    ca = tmp_path / "authority"
    run("certs", "ca", ca)
    assert "already holds" in run("certs", "ca", ca, ok=False)
    run("certs", "issue", ca, "n1", "--role", "node", "--host", "127.0.0.1", "--host", "n1.lan")
    run("certs", "issue", ca, "g1", "--role", "gateway")
    for name in ("ca.key", "n1.key", "g1.key"):
        assert stat.S_IMODE((ca / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(ca.stat().st_mode) == 0o700
    assert sorted(p.name for p in ca.iterdir()) == [
        *("ca.crt", "ca.key", "crl.pem", "g1.crt", "g1.key", "n1.crt", "n1.key")
    ]
    names = x509.load_pem_x509_certificate((ca / "n1.crt").read_bytes()).extensions
    san = names.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.DNSName) == ["n1", "n1.lan"]
    assert [str(a) for a in san.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]

    def tls(name):
        parts = (ca / f"{name}.crt", ca / f"{name}.key", ca / "ca.crt", ca / "crl.pem")
        return TlsFiles(*parts)

    n1 = tls("n1")
    options = ["--cert", n1.cert, "--key", n1.key, "--ca", n1.ca, "--crl", n1.crl]
    node = start_node(options=options)
    connect(node, tls("g1")).close()
    assert "is revoked" in run("certs", "revoke", ca, ca / "g1.crt")
    node.signal(signal.SIGHUP)
    node.wait_for("certificates read again")
    refused(node, tls("g1"))


def test_certs_command_refuses(tmp_path):
    ca = tmp_path / "authority"
    assert "no authority" in run("certs", "issue", ca, "n", "--role", "node", ok=False)
    run("certs", "ca", ca)
    for name in ("../evil", "ca", "a b", ""):
        assert "name" in run("certs", "issue", ca, name, "--role", "node", ok=False)
    assert "cannot read" in run("certs", "revoke", ca, tmp_path / "none", ok=False)
    for host in ("", "a b", "b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example", "a..b"):
        arguments = ("certs", "issue", ca, "n", "--role", "node", "--host", host)
        assert "neither a host name" in run(*arguments, ok=False)
    for name in ("", 65 * "a"):
        assert "name" in run("certs", "ca", tmp_path / "unnamed", "--name", name, ok=False)
    assert not (tmp_path / "unnamed").exists()
    (ca / "ca.key").write_text("garbage")
    assert "damaged" in run("certs", "issue", ca, "n", "--role", "node", ok=False)


def test_only_its_own_certificates_are_revoked_by_an_authority(tmp_path):
    """Authorities are called alike unless somebody names them."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for ca in (ours, theirs):
        run("certs", "ca", ca)
    run("certs", "issue", theirs, "gw", "--role", "gateway")
    before = (ours / "crl.pem").read_bytes()
    assert "not issued by" in run("certs", "revoke", ours, theirs / "gw.crt", ok=False)
    assert (ours / "crl.pem").read_bytes() == before


def test_an_authority_that_was_not_finished_is_made_again(tmp_path, monkeypatch):
    """Its key comes last: without it there is no authority, and nothing is in the way."""

    def full(self, revoked):
        raise CertificateError("cannot write crl.pem: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Authority, "_publish", full)
        with pytest.raises(CertificateError, match="No space"):
            Authority.create(tmp_path / "ca")
    Authority.create(tmp_path / "ca")
    Authority.open(tmp_path / "ca").issue(Request("n", Role.NODE))


def test_keys_are_never_written_through_a_link_nor_readable(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    before = os.umask(0)
    try:
        authority = Authority.create(tmp_path / "ca")
        for name in ("n.key", ".n.key.new", "n.crt"):
            (tmp_path / "ca" / name).symlink_to(victim)
        cert, key = authority.issue(Request("n", Role.NODE))
    finally:
        os.umask(before)
    assert victim.read_text() == "untouched"
    assert stat.S_IMODE(key.lstat().st_mode) == 0o600
    assert stat.S_IMODE(cert.lstat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700


def test_classifier_command_refuses_bad_certificates(files, bundle_path):
    start = ("classifier", "--listen", "127.0.0.1:0", "--model", bundle_path)

    def options(f):
        return ("--cert", f.cert, "--key", f.key, "--ca", f.ca)

    early = files("early", Role.NODE, not_before=NOW + 2 * DAY, days=3)
    assert "not yet valid" in run(*start, *options(early), ok=False)
    assert "wrong role" in run(*start, *options(files("gw", Role.GATEWAY)), ok=False)
    good = files("n", Role.NODE)
    assert "exclude" in run(*start, *options(good), "--plaintext", ok=False)
