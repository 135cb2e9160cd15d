"""A directory of captures in, the list of its files with their labels out, whatever its layout."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ids_appliance.errors import LabelError
from ids_appliance.train.labels import Entry, read_labels
from ids_appliance.train.readers import ciciot2023, folder

LAYOUTS: Final = ("labels", "ciciot2023", "folder")
"""labels: labels.json. ciciot2023: as that dataset is published. folder: captures.toml."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What there is to read, in the order in which it counts."""

    root: Path
    layout: str
    entries: tuple[Entry, ...]


def catalogue(
    root: Path, *, layout: str = "auto", on_error: str = "stop", attackers: tuple[str, ...] = ()
) -> Catalogue:
    """List the captures of a directory; reads names and labels, no capture.

    layout: one of LAYOUTS, or "auto": the one whose file of labels is there, else ciciot2023.
    on_error: "stop" raises for labels that cannot be used, "skip" lists the file with its problem.
    attackers: MACs or addresses of CICIoT2023's attacking devices, see readers/ciciot2023.py.
    Raises LabelError: no directory, no labels, nothing in it.
    """
    if not root.is_dir():
        raise LabelError(f"{root} is not a directory: name the one that holds the captures")
    if layout == "auto":
        layout = _found(root)
    if attackers and layout != "ciciot2023":
        raise LabelError(f"attackers belong to the layout ciciot2023, {root} is of {layout}")
    read: dict[str, Callable[[], list[Entry]]] = {
        "labels": lambda: read_labels(root / "labels.json", on_error=on_error),
        "ciciot2023": lambda: ciciot2023.entries(root, on_error=on_error, attackers=attackers),
        "folder": lambda: folder.entries(root, on_error=on_error),
    }
    return Catalogue(root, layout, tuple(read[layout]()))


def _found(root: Path) -> str:
    if (root / "labels.json").is_file():
        return "labels"
    if (root / folder.LABELS).is_file():
        return "folder"
    if ciciot2023.looks_like(root):
        return "ciciot2023"
    raise LabelError(
        f"{root} holds neither labels.json nor {folder.LABELS} nor folders named as in CICIoT2023: "
        "say in one of the files what the captures are"
    )
