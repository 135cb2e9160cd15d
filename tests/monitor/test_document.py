"""docs/monitor.md has every setting of a monitor's file, and no other."""

import re

import msgspec

from ids_appliance.monitor.settings import Monitor
from tests.architecture.sources import ROOT


def keys(struct: type[msgspec.Struct]) -> set[str]:
    """Return the names of all settings, of tables below as well."""
    found = set()
    for field in msgspec.structs.fields(struct):
        kinds = [field.type, *getattr(field.type, "__args__", ())]
        tables = [k for k in kinds if isinstance(k, type) and issubclass(k, msgspec.Struct)]
        found |= keys(tables[0]) if tables else {field.name}
    return found


def test_the_page_has_every_setting() -> None:
    text = (ROOT / "docs" / "monitor.md").read_text("utf-8")
    table = re.search(r"^\| setting \| default \|.*?\n\n", text, re.MULTILINE | re.DOTALL)
    assert table is not None
    first = [row.split("|")[1] for row in table[0].strip().splitlines()[2:]]
    named = {word for cell in first for word in re.findall(r"`(\w+)`", cell)}
    assert named == keys(Monitor)
