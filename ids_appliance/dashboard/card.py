"""A bundle's directory in, its model's card as a page out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

MAX_CARD_BYTES: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of a model."""

    model_id: str
    """In hex; "" where the card does not say."""
    text: str
    """Markdown; or one line that says why there is none."""


class _Told(msgspec.Struct, frozen=True):
    model_id: str = ""


def read_card(model: str) -> Card:
    """Return a bundle's card; one without text where the files are not to be read."""
    if not model:
        return Card("", "The dashboard was started without --config: it does not know the bundle.")
    place = Path(model)
    try:
        with (place / "card.md").open("rb") as file:
            text = file.read(MAX_CARD_BYTES).decode("utf-8", "replace")
        with (place / "card.json").open("rb") as file:
            told = msgspec.json.decode(file.read(64 * MAX_CARD_BYTES), type=_Told)
    except OSError as error:
        return Card("", f"{place}: {error.strerror}: the dashboard's user cannot read the bundle.")
    except ValueError:
        return Card("", f"{place}: its card.json makes no sense: `ids-appliance inspect {place}`")
    return Card(told.model_id, text)
