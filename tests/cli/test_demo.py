"""The demo: both modes agree, figures are printed and kept, and the node is gone afterwards."""

import json

import psutil


def test_the_demo_agrees_and_leaves_nothing_running(ids, model, tmp_path):
    done = ids("demo", "--recorded", "--model", model, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert text.count("bit for bit") == 3
    assert max(map(len, text.splitlines())) <= 100
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert figures["json_bytes_per_packet"] > 20 * figures["link_bytes_per_packet"] > 0
    assert (tmp_path / "out" / "verdicts.png").read_bytes().startswith(b"\x89PNG")
    running = [p.info["cmdline"] or [] for p in psutil.process_iter(["cmdline"])]
    assert not [c for c in running if str(model) in c and "classifier" in c]
