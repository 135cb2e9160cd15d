"""A capture through the whole appliance: the same every time, and an account that adds up."""

from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest

import ids_appliance
from ids_appliance import assemble, config
from ids_appliance.errors import CaptureError, ConfigError
from ids_appliance.gateway.offline import offline_parts
from ids_appliance.gateway.replay import INTERFACE, Made, Replay, Replayed, Sent
from ids_appliance.train.labels import Labeller, read_labels
from ids_appliance.types import Decision, Kind, Outcome, Response, Subject

ROOT = Path(ids_appliance.__file__).parent
DEMO = ROOT / "demo" / "lan.pcap.gz"
MODEL = ROOT.parent / "models" / "iot-top20"
SETTINGS = config.Config(interfaces=(INTERFACE,), enforce=config.Enforce(enabled=True))


def labels():
    [entry] = read_labels(DEMO.parent / "labels.json")
    labeller = Labeller(entry)
    return lambda batch: labeller.label(batch)[0]


def run(settings=SETTINGS, capture=DEMO, **how):
    with closing(assemble.local_classifier(MODEL)) as classifier:
        return Replay(settings, offline_parts, classifier, **how).run(capture)


def changed(section, **values):
    inner = msgspec.structs.replace(getattr(SETTINGS, section), **values)
    return msgspec.structs.replace(SETTINGS, **{section: inner})


@pytest.fixture(scope="module")
def demo():
    return run(label=labels())


def summary(replayed):
    windows = [
        (w.rule, w.opened_ns, w.closed_ns, w.why, w.seen, w.judged) for w in replayed.windows
    ]
    made = [(m.decision, m.at_ns, m.done) for m in replayed.made]
    names = ("judged", "screened", "contained", "cell_asks")
    return windows, made, [replayed.counters[name] for name in names]


def test_the_same_capture_gives_the_same_result(demo):
    assert summary(run()) == summary(demo)


def test_every_frame_has_one_last_word(demo):
    c = demo.counters
    outcomes = [o.name.lower() for o in Outcome if o is not Outcome.WAITING]
    assert sum(c[name] for name in outcomes) == c["delivered"] == 16_621
    assert c["under_way"] == c["unanswered"] == c["shed"] == 0


def test_the_windows_of_the_records_are_those_of_the_counters(demo):
    c = demo.counters
    assert sum(w.judged for w in demo.windows) == c["judged"] > 0
    assert sum(w.contained for w in demo.windows) <= c["contained"]
    assert sum(w.cells_asked for w in demo.windows) == c["cell_asks"]
    assert all(w.closed_ns is not None for w in demo.windows)
    assert len(demo.windows) == c["windows"]


def test_the_attacker_is_found_and_nobody_else_accused(demo):
    accused = demo.acted()
    assert len(demo.found(accused)) == sum(s.attacker for s in demo.senders.values()) == 1
    assert demo.wronged(accused) == []
    assert demo.found(demo.named) and not demo.wronged(demo.named)


def test_whom_it_cuts_off_is_not_judged_any_more(demo):
    [quarantine] = [m for m in demo.made if m.decision.response is Response.QUARANTINE]
    assert quarantine.acts and demo.counters["contained"] > 0
    observed = run(changed("enforce", enabled=False))
    assert observed.acted() == set() and observed.counters["contained"] == 0
    assert observed.made and not any(m.acts for m in observed.made)
    assert observed.counters["judged"] > demo.counters["judged"]


def test_always_judges_everything_that_is_not_contained():
    replayed = run(changed("trigger", kind="always"))
    c = replayed.counters
    assert c["screened"] == 0 and len(replayed.windows) == 1
    assert c["judged"] + c["contained"] + c["unparsable"] == c["delivered"]


def test_a_window_that_no_rule_opens_stays_closed():
    replayed = run(changed("trigger", kind="manual"))
    assert replayed.windows == [] and replayed.counters["judged"] == 0


def test_samples_look_at_ordinary_life():
    replayed = run(changed("window", sample_every_s=10.0, sample_s=1.0))
    samples = [w for w in replayed.windows if not w.incident]
    # Until the rules open the window, 41 s into the capture.
    assert len(samples) >= 3
    assert all(w.closed_ns - w.opened_ns == 10**9 for w in samples[:3])
    assert all(w.judged for w in samples[:3])


def test_bad_input():
    with pytest.raises(CaptureError):
        run(capture="/nowhere/lan.pcap")
    with pytest.raises(ConfigError, match="Zeek"):
        run(changed("trigger", kind="zeek"))


def made(sender, response=Response.QUARANTINE, done=True):
    subject = Subject(Kind.IPV4, bytes(4))
    return Made(Decision(1, subject, response, 1.0, ""), sender, 0, done)


def test_who_counts_as_found_and_as_wronged():
    replayed = Replayed("x")
    replayed.senders = {
        b"attacker": Sent([5, 1, 0, 0]),
        b"spoofed": Sent([0, 1, 0, 0], {b"flood"}),
        b"missed": Sent([0, 9, 0, 0], {b"another flood"}),
        b"ordinary": Sent([3, 0, 0, 0]),
        b"victim": Sent([0, 0, 7, 0]),
        b"unknown": Sent([0, 0, 0, 4]),
    }
    replayed.made = [made(who) for who in (b"attacker", b"flood", b"victim", b"unknown")]
    replayed.made += [made(b"ordinary", done=False), made(b"missed", Response.OBSERVE)]
    accused = replayed.acted()
    assert accused == {b"attacker", b"flood", b"victim", b"unknown"}
    assert set(replayed.found(accused)) == {b"attacker", b"spoofed"}
    assert replayed.wronged(accused) == [b"victim"]


def test_labels_are_counted_once_per_frame(demo):
    counts = np.array([sent.frames for sent in demo.senders.values()]).sum(axis=0)
    own_senders = demo.counters["delivered"] - demo.counters["unparsable"]
    assert counts.sum() == own_senders
    attacker = next(s for s in demo.senders.values() if s.attacker)
    assert attacker.first_malicious_ns is not None
