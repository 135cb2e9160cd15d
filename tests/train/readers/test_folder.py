"""captures.toml labels files by pattern and packets by address; nothing is benign by oversight."""

import pytest

from ids_appliance.errors import LabelError
from ids_appliance.train.extract import CaptureReader
from ids_appliance.train.labels import Label
from ids_appliance.train.readers import catalogue
from tests.ext import frames as f
from tests.train.captures import addressed_to, write_pcap

BAD = bytes([203, 0, 113, 9])
ORDINARY = f.ethernet(f.ipv4(f.tcp()))
SENT = f.ethernet(f.ipv4(f.tcp(), source=BAD))
BACK = addressed_to(BAD)


@pytest.fixture
def root(tmp_path):
    write_pcap(tmp_path / "quiet/one.pcap", [ORDINARY, SENT, BACK])
    write_pcap(tmp_path / "scan-1.pcap.gz", [ORDINARY, SENT])
    return tmp_path


def labelled(root, text, **options):
    (root / "captures.toml").write_text(text)
    listed = catalogue(root, **options)
    assert listed.layout == "folder"
    out = {}
    for entry in listed.entries:
        reader = CaptureReader(root, entry)
        (chunk,) = reader.chunks()
        out[entry.file] = [
            (Label(label).name.lower(), reader.families[family])
            for label, family in zip(chunk.labels, chunk.family, strict=True)
        ]
    return out, listed


def test_a_file_has_one_label(root):
    found, listed = labelled(root, '[files]\n"scan-*" = "malicious Recon"\n"*" = "benign"\n')
    assert found == {
        "quiet/one.pcap": [("benign", "Benign")] * 3,
        "scan-1.pcap.gz": [("malicious", "Recon")] * 2,
    }
    assert {e.group for e in listed.entries} == {root.name}


def test_an_address_has_one_label_in_every_file(root):
    text = 'origin = "home"\n[files]\n"*" = "benign"\n[addresses]\n"203.0.113.9" = '
    found, listed = labelled(root, text + '"malicious DoS"\n')
    assert found["quiet/one.pcap"] == [
        ("benign", "Benign"),
        ("malicious", "DoS"),
        ("related", "DoS"),
    ]
    assert {e.group for e in listed.entries} == {"home"}
    found, _ = labelled(root, text + '"ignore DoS"\n')
    assert [label for label, _ in found["quiet/one.pcap"]] == ["benign", "ignore", "ignore"]


def test_a_capture_that_no_pattern_fits_is_not_benign(root):
    text = '[files]\n"scan-*" = "malicious Recon"\n'
    with pytest.raises(LabelError, match=r"no pattern of captures.toml fits quiet/one.pcap"):
        labelled(root, text)
    (root / "captures.toml").write_text(text)
    found = {e.file: e.problem for e in catalogue(root, on_error="skip").entries}
    assert "no pattern" in found["quiet/one.pcap"] and not found["scan-1.pcap.gz"]


def test_a_pattern_that_fits_no_capture_leaves_no_attack_to_the_next(root):
    text = '[files]\n"scna-*" = "malicious Recon"\n"*" = "benign"\n'
    for on_error in ("stop", "skip"):
        with pytest.raises(LabelError, match=r"'scna-\*' of \[files\] fits no capture: correct it"):
            labelled(root, text, on_error=on_error)


def test_a_pattern_that_fits_may_have_been_decided_before(root):
    found, _ = labelled(root, '[files]\n"*" = "benign"\n"quiet/*" = "malicious DoS"\n')
    assert {label for one in found.values() for label, _ in one} == {"benign"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[files", "is not TOML"),
        ("[filez]", "there is no 'filez'"),
        ("files = 1", r"\[files\] is not a table"),
        ("origin = 1", "origin is not a text"),
        ('[files]\n"*" = "evil"', "'evil' is not"),
        ('[files]\n"*" = 3', "3 is not"),
        ('[files]\n"*" = "malicious"', "say the family"),
        ('[files]\n"*" = "benign DoS"', "benign packets are of no family"),
        (
            '[addresses]\n"me" = "malicious DoS"',
            r"toml: 'me' is neither a MAC nor an address",
        ),
    ],
)
def test_what_cannot_be_meant_is_named(root, text, message):
    with pytest.raises(LabelError, match=message):
        labelled(root, text)


def test_ipv6_addresses_and_macs_are_told_apart(root):
    six = "1234:5678:9abc::"
    text = f'[files]\n"*" = "benign"\n[addresses]\n"{six}" = "malicious DoS"\n'
    _, listed = labelled(root, text)
    assert {name for rule in listed.entries[0].rules for name, _, _ in rule.conditions} == {
        "ip_src",
        "ip_dst",
        "arp_spa",
        "arp_tpa",
    }
