"""terms.json in, an answer per repository out: may a model trained on its captures be shipped?"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ids_appliance.errors import LabelError

SHIPPED: Final = Path(__file__).with_name("terms.json")
"""The terms of the captures that this project's own models are made of."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What one repository's owner permits."""

    repo: str
    terms: str
    """As stated by the owner."""
    ship: bool
    why: str
    cite: str


def read_terms(path: Path = SHIPPED) -> dict[str, Terms]:
    """Return the terms by repository. Raises LabelError if the file is not of that form."""
    try:
        document = json.loads(path.read_text())
        read = [Terms(**raw) for raw in document["repositories"]]
    except OSError as error:
        raise LabelError(f"cannot read the terms {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise LabelError(f"{path} does not hold terms of repositories: {error}") from error
    for one in read:
        if not isinstance(one.ship, bool) or (one.ship and not one.cite):
            raise LabelError(f"{path}: {one.repo} needs ship true or false, and if true a citation")
    return {one.repo: one for one in read}
