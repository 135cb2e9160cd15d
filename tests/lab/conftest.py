"""Labs for these tests: one per layout, built once, with its services; skipped without root."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ids_appliance.capture.file import CaptureFile
from ids_appliance.errors import LabError
from ids_appliance.lab.network import Lab
from ids_appliance.lab.run import Moment, play
from ids_appliance.lab.scenarios import Scenario, read
from ids_appliance.lab.services import NEEDS, offered
from ids_appliance.lab.wiring import require_vlan
from ids_appliance.train.fields import read_fields
from ids_appliance.train.labels import Labeller, read_labels
from tests.net.namespaces import require

EVERYTHING = Path(__file__).parent / "everything.toml"


@pytest.fixture(scope="session")
def privileged() -> None:
    require(*NEEDS)


@pytest.fixture(scope="session", params=["routed", "bridge", "vlan"])
def lab(request: pytest.FixtureRequest, privileged: None) -> Iterator[Lab]:
    if request.param == "vlan":
        try:
            require_vlan()
        except LabError as error:
            pytest.skip(str(error))
    with Lab(request.param) as built, offered(built):
        yield built


@dataclass
class Recorded:
    """What a scenario has left, and its frames' labels and fields."""

    scenario: Scenario
    moments: list[Moment]
    capture: Path
    labels: np.ndarray
    rules: np.ndarray
    families: list[str]
    fields: dict[str, tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="session")
def recorded(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """One scenario in which every tool has its turn, played and labelled."""
    scenario = read(str(EVERYTHING))
    require(*scenario.needs)
    out = tmp_path_factory.mktemp(lab.layout.name)
    moments = list(play(lab, scenario, out=out, clock=time.time_ns))
    labeller = Labeller(read_labels(out / "labels.json")[0])
    labels, rules, fields = [], [], []
    for batch in CaptureFile(out / "capture.pcap").batches():
        found, rule = labeller.label(batch)
        labels.append(found)
        rules.append(rule)
        fields.append(read_fields(batch))
    joined = {
        name: tuple(
            np.concatenate([getattr(f[name], k) for f in fields]) for k in ("values", "present")
        )
        for name in fields[0]
    }
    return Recorded(
        scenario,
        moments,
        out / "capture.pcap",
        np.concatenate(labels),
        np.concatenate(rules),
        list(labeller.families),
        joined,
    )
