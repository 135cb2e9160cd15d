"""The published tree is read by name alone, whole files or by who attacked."""

from collections import Counter

import numpy as np
import pytest

from ids_appliance.errors import LabelError
from ids_appliance.train.corpus import read_corpus
from ids_appliance.train.extract import CaptureReader
from ids_appliance.train.labels import Label
from ids_appliance.train.readers import catalogue, ciciot2023
from tests.ext import frames as f
from tests.train.captures import addressed_to, write_pcap
from tests.train.ciciot import make_tree


def families(root, **options):
    return {e.file: e.family for e in catalogue(root, **options).entries}


def test_the_33_attacks_are_of_the_published_seven_categories():
    categories = Counter(name.split("-")[0] for name in ciciot2023.ATTACKS if "-" in name)
    assert len(ciciot2023.ATTACKS) == 33
    assert categories == {"DDoS": 12, "DoS": 4, "Recon": 4, "Mirai": 3, "MITM": 1}
    assert Counter(ciciot2023.ATTACKS.values()) == {
        **{"DoS": 16, "Recon": 5, "Spoofing": 2, "Mirai": 3, "BruteForce": 1, "Other": 6},
    }


def test_every_file_of_the_tree_has_its_attacks_family(tmp_path):
    make_tree(tmp_path, n=3)
    found = families(tmp_path)
    assert len(found) == 33 + 2 + 2
    assert found["DDoS-HTTP_Flood/DDoS-HTTP_Flood-.pcap"] == "DoS"
    assert found["DDoS-RSTFINFlood/DDoS-RSTFINFLOOD.pcap"] == "DoS"
    assert found["DDoS-ACK_Fragmentation/DDoS-ACK_Fragmentation1.pcap"] == "DoS"
    assert found["VulnerabilityScan/VulnerabilityScan.pcap"] == "Recon"
    assert found["XSS/XSS.pcap"] == "Other"
    assert found["Benign_Final/BenignTraffic1.pcap"] == "Benign"
    corpus = read_corpus(tmp_path)
    assert np.bincount(corpus.labels).tolist() == [2 * 3, 35 * 3]


def test_one_file_per_attack_without_folders_and_other_folders_above(tmp_path):
    write_pcap(tmp_path / "DoS-SYN_Flood.pcap.gz", [f.ethernet(f.ipv4(f.tcp()))])
    write_pcap(tmp_path / "PCAP/DNS_Spoofing/part-a.pcap", [f.ethernet(f.ipv4(f.tcp()))])
    assert families(tmp_path) == {
        "DoS-SYN_Flood.pcap.gz": "DoS",
        "PCAP/DNS_Spoofing/part-a.pcap": "Spoofing",
    }


def test_a_capture_of_no_attack_is_named(tmp_path):
    make_tree(tmp_path, n=1, only=["XSS"])
    write_pcap(tmp_path / "mine/unknown.pcap", [f.ethernet(f.ipv4(f.tcp()))])
    with pytest.raises(LabelError, match="mine/unknown.pcap is named like no attack"):
        catalogue(tmp_path)
    corpus = read_corpus(tmp_path, on_error="skip")
    assert [r.entry.file for r in corpus.reports if r.status == "mislabelled"] == [
        "mine/unknown.pcap"
    ]
    with pytest.raises(LabelError, match="named like no attack"):
        read_corpus(tmp_path, on_error="stop")


def test_named_attackers_label_packets(tmp_path):
    sent = f.ethernet(f.ipv4(f.tcp(), source=bytes([203, 0, 113, 9])))
    other = f.ethernet(f.ipv4(f.tcp(), source=bytes([192, 0, 2, 7])))
    back = addressed_to(bytes([203, 0, 113, 9]))
    write_pcap(tmp_path / "XSS/XSS.pcap", [sent, other, back])
    write_pcap(tmp_path / "Benign_Final/BenignTraffic.pcap", [sent])
    for attacker in ("203.0.113.9",):
        entries = catalogue(tmp_path, attackers=(attacker,)).entries
        labels = [
            Label(label)
            for entry in entries
            for chunk in CaptureReader(tmp_path, entry).chunks()
            for label in chunk.labels
        ]
        assert labels == [Label.BENIGN, Label.MALICIOUS, Label.IGNORE, Label.RELATED]
    mac = "02:00:00:00:00:01"
    (_, entry) = catalogue(tmp_path, attackers=(mac,)).entries
    (chunk,) = CaptureReader(tmp_path, entry).chunks()
    assert set(chunk.labels.tolist()) == {Label.MALICIOUS}
    with pytest.raises(LabelError, match="neither a MAC nor an address"):
        catalogue(tmp_path, attackers=("nobody",))


def test_an_empty_tree_is_one_line(tmp_path):
    (tmp_path / "XSS").mkdir()
    with pytest.raises(LabelError, match="holds no capture"):
        catalogue(tmp_path)
    with pytest.raises(LabelError, match=r"neither labels\.json nor captures\.toml"):
        catalogue(tmp_path / "XSS")
    with pytest.raises(LabelError, match="is not a directory"):
        catalogue(tmp_path / "none")
