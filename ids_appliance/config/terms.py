"""What the sections are made of: the types of their settings, with the ranges that they allow."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(gt=0, le=315_360_000)]
SecondsOrZero = Annotated[float, Meta(ge=0, le=315_360_000)]
Ratio = Annotated[float, Meta(ge=0, le=1)]
Weight = Annotated[float, Meta(ge=-1000, le=1000)]
"""Natural log-odds."""
Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Distinct = Annotated[int, Meta(ge=1, le=64)]
"""Ports, hosts or addresses: so many are told apart per key."""
Rows = Annotated[int, Meta(ge=16, le=4_194_304)]
"""Cap of a table."""
SetSize = Annotated[int, Meta(ge=1, le=1_048_576)]
"""Elements of a set in the kernel."""
Response = Literal["observe", "deprioritise", "rate_limit", "quarantine"]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all sections share."""
