"""Offline = gateway-only = offloaded on every packet of every capture, with each shipped model.

    python -m tests.campaigns.modes_all [--data DIR] [--model BUNDLE ...]

Offline: record, then the forest, no cells. Gateway-only and offloaded: the whole pipeline, the node
a process of its own. Probabilities are compared as bytes. Ends with 1 if any differs.
"""

import argparse
import os
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from ids_appliance.capture.file import CaptureFile
from ids_appliance.classify.bundle import load_bundle
from ids_appliance.classify.local import LocalClassifier
from ids_appliance.classify.remote import LinkOptions, RemoteClassifier
from ids_appliance.pipeline import Pipeline
from tests.classify.nodes import NodeProcess
from tests.test_modes import Keep, judged, offline

ROOT = Path(__file__).resolve().parents[2]


def compare(model: Path, captures: list[Path], scratch: Path) -> bool:
    """Compare the three for one model; print the count; return whether all are equal."""
    bundle = load_bundle(model)
    node = NodeProcess(model, scratch / f"{model.name}.log")
    local = LocalClassifier(bundle)
    remote = RemoteClassifier.connect([node.address], LinkOptions(deadline_s=60.0))
    packets, different = 0, []
    try:
        for path in tqdm(captures, desc=model.name, unit="file"):
            expected = offline(path, bundle).tobytes()
            for classifier in (local, remote):
                keep = Keep()
                with closing(CaptureFile(path)) as source:
                    Pipeline(source, classifier, keep).run()
                if judged(keep.batches).tobytes() != expected:
                    different.append(f"{path} {type(classifier).__name__}")
            packets += len(expected) // 8
    finally:
        local.close()
        remote.close()
        node.close()
    print(f"{model.name}: {packets:,} packets of {len(captures)} captures, {len(different)} differ")
    for line in different:
        print(f"  {line}")
    return not different


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    default = Path(os.environ.get("IDS_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--model", type=Path, nargs="+")
    chosen = parser.parse_args()
    models = chosen.model or sorted(p.parent for p in (ROOT / "models").glob("*/card.json"))
    captures = sorted(chosen.data.rglob("*.pcap.gz"))
    if not captures or not models:
        parser.error(f"no captures below {chosen.data}, or no model")
    with tempfile.TemporaryDirectory() as scratch:
        return 0 if all([compare(m, captures, Path(scratch)) for m in models]) else 1


if __name__ == "__main__":
    sys.exit(main())
