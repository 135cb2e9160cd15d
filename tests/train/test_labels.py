"""Rules label exactly the packets that the reference reader labels, and bad rules are named."""

import importlib.util
import json

import numpy as np
import pytest

from ids_appliance.capture.file import CaptureFile
from ids_appliance.errors import LabelError
from ids_appliance.train.labels import Label, Labeller, read_labels
from ids_appliance.types import FrameBatch
from tests.ext import frames as f
from tests.train.captures import entry


def labelled(tmp_path, rules, packets, *, default="ignore", linktype=1, times_ns=None):
    path = tmp_path / "labels.json"
    raw = entry("a/b.pcap", family="DoS", rules=rules, default=default)
    path.write_text(json.dumps({"version": 1, "files": [raw]}))
    (read,) = read_labels(path)
    data, table = f.records(packets, linktype)
    if times_ns is not None:
        table["timestamp_ns"] = times_ns
    labeller = Labeller(read)
    labels, decided = labeller.label(FrameBatch(data, table))
    return [Label(i).name.lower() for i in labels], [labeller.families[i] for i in decided]


def rule(label="malicious", **match):
    return {"label": label, "match": match}


SYN = f.ethernet(f.ipv4(f.tcp(ports=(1, 80), flags=2)))
SYN_ACK = f.ethernet(f.ipv4(f.tcp(ports=(80, 1), flags=18)))
NULL = f.ethernet(f.ipv4(f.tcp(flags=0)))
UDP = f.ethernet(f.ipv4(f.udp(ports=(53, 5)), f.UDP))
TAGGED = f.ethernet(f.ipv4(f.udp(), f.UDP), tags=(f.QINQ, f.VLAN))
LATER = f.ethernet(f.ipv4(f.tcp(), fragment=7))
ARP = f.ethernet(f.arp(), f.ARP)
SIX = f.ethernet(f.ipv6(f.tcp()), f.IPV6)
HOPS = f.ethernet(f.extended((f.HOP, f.extension(f.TCP)), payload=f.tcp()), f.IPV6)
OTHER = f.ethernet(b"x" * 50, 0x88CC)
SHORT = SYN[:13]
ALL = [SYN, SYN_ACK, NULL, UDP, TAGGED, LATER, ARP, SIX, HOPS, OTHER, SHORT]


@pytest.mark.parametrize(
    ("match", "found"),
    [
        ({}, ALL),
        ({"proto": "tcp"}, [SYN, SYN_ACK, NULL, LATER, SIX, HOPS]),
        ({"proto": ["udp", "0"]}, [UDP, TAGGED]),
        ({"proto_not": "tcp"}, [UDP, TAGGED]),
        ({"tcp_flags": "S"}, [SYN, SIX, HOPS]),
        ({"tcp_flags": "SA"}, [SYN_ACK]),
        ({"tcp_flags": "0"}, [NULL]),
        ({"tcp_flags_not": ["S", "0"]}, [SYN_ACK]),
        ({"dport": 80, "sport": 1}, [SYN]),
        ({"sport_not": 1, "dport": [80, 5]}, [NULL, UDP, SIX, HOPS]),
        ({"etype": "arp"}, [ARP]),
        ({"etype": ["ipv6", "0x88cc"]}, [SIX, HOPS, OTHER]),
        ({"arp_op": 1}, [ARP]),
        ({"arp_sha": "02:00:00:00:00:01", "arp_spa": "192.0.2.1"}, [ARP]),
        ({"arp_spa_not": "192.0.2.1"}, []),
        ({"ip_src": "192.0.2.1"}, [SYN, SYN_ACK, NULL, UDP, TAGGED, LATER]),
        ({"ip_dst": ["2001:db8::2", "198.51.100.3"]}, [SIX, HOPS]),
        ({"ip_src_not": "2001:db8::1", "proto": "tcp"}, [SYN, SYN_ACK, NULL, LATER]),
        ({"eth_src": "02:00:00:00:00:01"}, ALL[:-1]),
        ({"eth_dst_not": "02:00:00:00:00:02"}, []),
    ],
)
def test_fields(tmp_path, match, found):
    labels, _ = labelled(tmp_path, [rule(**match)], ALL)
    got = [packet for packet, label in zip(ALL, labels, strict=True) if label == "malicious"]
    assert {ALL.index(p) for p in got} == {ALL.index(p) for p in found}


def test_first_rule_wins_and_names_the_family(tmp_path):
    rules = [
        rule("related", proto="tcp", sport=80),
        rule("malicious", proto="tcp") | {"family": "Recon"},
    ]
    labels, families = labelled(tmp_path, rules, [SYN, SYN_ACK, UDP], default="benign")
    assert labels == ["malicious", "related", "benign"]
    assert families == ["Recon", "DoS", "Benign"]


def test_times_count_from_the_first_packet_inclusively(tmp_path):
    times = [5_000_000_000, 5_125_000_000, 6_000_000_000, 6_000_000_001]
    labels, _ = labelled(tmp_path, [rule(t_min=0.125, t_max=1.0)], [SYN] * 4, times_ns=times)
    assert labels == ["ignore", "malicious", "malicious", "ignore"]


def test_cooked_captures_have_a_source_mac_only(tmp_path):
    packets = [f.cooked_v1(f.ipv4(f.tcp()))]
    assert labelled(tmp_path, [rule(eth_src="02:00:00:00:00:01")], packets, linktype=113)[0] == [
        "malicious"
    ]
    assert labelled(tmp_path, [rule(eth_dst_not="00:00:00:00:00:00")], packets, linktype=113)[
        0
    ] == ["ignore"]
    assert labelled(tmp_path, [rule(proto="tcp")], packets, linktype=276)[0] == ["ignore"]


def test_a_capture_may_have_more_rules_than_a_byte_counts(tmp_path):
    rules = [rule(dport=port) for port in range(1000, 1299)] + [rule("related", dport=80)]
    assert labelled(tmp_path, rules, [SYN, UDP]) == (["related", "ignore"], ["DoS", "DoS"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"default": "evil"}, "'evil' is not a label"),
        ({"default": None}, "None is not a label"),
        ({"rules": [rule("bad")]}, "rule 1: 'bad' is not a label"),
        ({"rules": [rule(colour="red")]}, "no field 'colour'"),
        ({"rules": [rule(ip_src="192.0.2")]}, "ip_src cannot be"),
        ({"rules": [rule(ip_src=7)]}, "ip_src cannot be"),
        ({"rules": [rule(eth_src="02:00")]}, "eth_src cannot be"),
        ({"rules": [rule(sport="80")]}, "sport cannot be"),
        ({"rules": [rule(tcp_flags="AS")]}, "tcp_flags cannot be"),
        ({"rules": [rule(proto="tcpp")]}, "proto cannot be"),
        ({"rules": [rule(t_min="1")]}, "t_min is not a number"),
        ({"rules": [{"label": "benign"}]}, "rule 1 has no match"),
        ({"rules": {}}, "rules is not a list"),
        ({"file": "../secret.pcap"}, "outside the data directory"),
        ({"file": "/etc/secret.pcap"}, "outside the data directory"),
        ({"file": None}, "has no name"),
        ({"group": 3}, "group is not a text"),
    ],
)
def test_wrong_labels_are_named(tmp_path, change, message):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"version": 1, "files": [entry("a/b.pcap") | change]}))
    with pytest.raises(LabelError, match=message):
        read_labels(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a labels.json"),
        ('{"version": 2}', "not a labels.json"),
        ('{"version": 1, "files": []}', "lists no files"),
    ],
)
def test_files_that_are_no_labels(tmp_path, content, message):
    path = tmp_path / "labels.json"
    path.write_text(content)
    with pytest.raises(LabelError, match=message):
        read_labels(path)
    with pytest.raises(LabelError, match="cannot read"):
        read_labels(tmp_path / "none.json")
    twice = json.dumps({"version": 1, "files": [entry("a/b"), entry("a/b")]})
    path.write_text(twice)
    with pytest.raises(LabelError, match="listed twice"):
        read_labels(path)


@pytest.mark.data
def test_every_label_equals_the_reference_readers(data_dir):
    spec = importlib.util.spec_from_file_location("reference", data_dir / "label_packets.py")
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    raw = {e["file"]: e for e in json.loads((data_dir / "labels.json").read_text())["files"]}
    compared = 0
    for read in read_labels(data_dir / "labels.json"):
        if read.kind != "pcap":
            continue
        labeller, capture = Labeller(read), CaptureFile(data_dir / read.file)
        ours = [
            (Label(label).name.lower(), labeller.families[number])
            for batch in capture.batches()
            for label, number in zip(*(a.tolist() for a in labeller.label(batch)), strict=True)
        ]
        capture.close()
        theirs = [(label, name) for _, label, name in reference.label(raw[read.file], data_dir)]
        # The reference also labels a last frame that the file holds only in part.
        assert len(theirs) - len(ours) in ((0, 1) if capture.problem else (0,)), read.file
        assert ours == theirs[: len(ours)], read.file
        compared += len(ours)
    assert compared > 0
    assert np.iinfo(np.uint16).max > len(raw)
