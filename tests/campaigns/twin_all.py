"""Every packet of every capture in a directory: the compiled record equals the twin.

usage: python -m tests.campaigns.twin_all [DATA]   (default: IDS_DATA, then ../shared/data)
The frames reach the compiled code by the project's own reader and the twin by another one, so a
difference may also be the reader's.
"""

import json
import os
import sys
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from ids_appliance.capture.file import CaptureFile
from tests.campaigns import captures
from tests.campaigns.compare import Comparison, report


def capture_paths(data: Path) -> list[Path]:
    """Return the captures that labels.json names, in its order."""
    entries = json.loads((data / "labels.json").read_text())["files"]
    return [data / entry["file"] for entry in entries if entry.get("kind") == "pcap"]


def run(data: Path, *, progress: bool = False) -> Comparison:
    """Compare all captures under `data`; each file's frames count the same in both readers."""
    comparison = Comparison()
    for path in tqdm(capture_paths(data), unit="capture", disable=not progress):
        source = CaptureFile(path)
        plain = captures.frames(path)
        for batch in source.batches():
            expected = list(islice(plain, len(batch.frames)))
            if {linktype for linktype, _ in expected} != set(batch.frames["linktype"].tolist()):
                comparison.differences.append(f"{path}: link types differ")
            comparison.take(batch, [frame for _, frame in expected])
        if next(plain, None) is not None:
            comparison.differences.append(f"{path}: the reader stopped early")
        source.close()
        comparison.totals["captures"] += 1
    return comparison


def main() -> int:
    default = os.environ.get("IDS_DATA", "../shared/data")
    comparison = run(Path(sys.argv[1] if len(sys.argv) > 1 else default), progress=True)
    print(report(comparison))
    return int(bool(comparison.differences))


if __name__ == "__main__":
    sys.exit(main())
