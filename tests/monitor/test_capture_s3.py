"""The published scenario from switch to labels: up, capture at the monitor, export, label."""

import signal
import sys
from pathlib import Path

import pytest

from ids_appliance.train.corpus import read_corpus
from tests.monitor.enclosure import Enclosure, ping
from tests.monitor.test_capture_labels import done

pytestmark = pytest.mark.net
H1, H2 = "192.168.1.222", "192.168.1.223"


def test_from_the_switch_to_labelled_training_data(inside: Enclosure, tmp_path: Path) -> None:
    inside.up("s3")
    assert ping(inside, "Host1", H2)  # each now knows the other's MAC
    path = tmp_path / "trafh1h2.pcap"
    words = ["monitor", "capture", "--config", "s3", "--engine", "none"]
    words += ["--filter", "icmp", "--count", "20", "--write", str(path)]
    capture = inside.start(sys.executable, "-m", "ids_appliance", *words)
    assert capture.stderr is not None and capture.stdout is not None
    assert "eth1 in Monitor" in capture.stderr.readline()
    assert ping(inside, "Host1", H2, count=10)
    out, _ = capture.communicate(timeout=60)
    assert capture.returncode == 0 and "20 frames · kernel dropped 0" in out

    done(path, "--attack", "icmp_flood", "--from", H1, "--to", H2, "--proto", "icmp")
    corpus = read_corpus(tmp_path)
    assert corpus.labels.tolist() == [1, 2] * 10

    words = ["monitor", "export", "--config", "s3", "--listen", "127.0.0.1:0"]
    export = inside.start(sys.executable, "-m", "ids_appliance", *words)
    assert export.stdout is not None and export.stderr is not None
    where = export.stdout.readline().split()[2].rstrip(";")
    page = inside.run(sys.executable, "-c", GET, where)
    assert 'ids_appliance_monitor_port_up{bridge="s1",port="par_s1h1"} 1.0' in page
    assert 'ids_appliance_monitor_mirror_dropped_total{bridge="s1",mirror="espejo"} 0.0' in page
    export.send_signal(signal.SIGINT)
    assert export.wait(30) == 0
    for pipe in (export.stdout, export.stderr):
        pipe.close()
    inside.down("s3")


# In there 127.0.0.1 is another one.
GET = """
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=30).read().decode())
"""
