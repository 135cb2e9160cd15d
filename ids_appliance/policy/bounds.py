"""A file of bounds in, what the evidence is compared with out; `calibrate` writes such files."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from ids_appliance import config
from ids_appliance.errors import BoundsError
from ids_appliance.types import F64

SHIPPED: Final = Path(__file__).with_name("bounds.json")
MAX_BYTES: Final = 1 << 20
RATES: Final = (0.001, 0.01, 0.05)
"""False alarms per sender that every table of bounds has a row for."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How evidence was added up; bounds mean something only where it is added up alike."""

    clip: float
    cell_weight: float
    cells_per_sender: int
    half_life_s: float
    lower: float


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One false-alarm rate and its bound."""

    false_alarms: float
    """Asked for, per ordinary sender."""
    upper: float
    quantile: float
    """What these senders alone would allow; `upper` is never below `least_upper`."""
    ordinary: int
    """Ordinary senders that reach it."""
    per_device_day: float
    """The same, per day of a device that is active."""
    malicious: int | None = None
    """Malicious senders that reach it; None where no labels were given."""


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `policy.bounds` names: two bounds, the triggers' priors, and where they come from."""

    version: int = 1
    upper: float
    false_alarms: float
    """Of ordinary senders, the share that may reach `upper`."""
    prior_logit: float
    """Log-odds of "malicious" in the model's training data, subtracted from every packet's."""
    model_id: str
    settings: Settings
    least: float = 0.0
    """No row of the table goes below; see `least_upper`."""
    priors: dict[str, float] = {}
    """Rule -> log-odds with which its trigger enters."""
    table: tuple[Row, ...] = ()
    senders: int = 0
    """Ordinary senders behind the table."""
    malicious_senders: int = 0
    device_days: float = 0.0
    """Hours in which an ordinary sender sent something, / 24."""
    data: dict[str, str] = {}
    """Capture -> SHA-256 of the file, or interface -> how long it was watched."""
    note: str = ""


def read_bounds(path: str | os.PathLike[str] = "") -> Bounds:
    """Read a file of bounds; "" the shipped one. Raises BoundsError, with one clear line."""
    name = Path(path) if path else SHIPPED
    try:
        with open(name, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BoundsError(f"cannot read the bounds {name}: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise BoundsError(f"cannot use the bounds {name}: larger than {MAX_BYTES} bytes")
    try:
        bounds = msgspec.json.decode(content, type=Bounds)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BoundsError(f"cannot use the bounds {name}: {error}") from error
    wrong = _wrong(bounds)
    if wrong:
        raise BoundsError(f"cannot use the bounds {name}: {wrong}")
    return bounds


def write_bounds(bounds: Bounds, path: Path) -> None:
    """Write a file of bounds, whole or not at all. Raises BoundsError."""
    text = msgspec.json.format(msgspec.json.encode(bounds, order="sorted"), indent=1) + b"\n"
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(staging, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(staging, path)
    except OSError as error:
        staging.unlink(missing_ok=True)
        raise BoundsError(f"cannot write the bounds {path}: {error.strerror}") from error


def _wrong(bounds: Bounds) -> str:
    if bounds.version != 1:
        return f"they are of version {bounds.version}, this program reads 1"
    if not 0.0 < bounds.upper <= 1e5:
        return f"upper is {bounds.upper}, and has to be above 0"
    if not -64.0 <= bounds.prior_logit <= 64.0:
        return f"prior_logit is {bounds.prior_logit}"
    bad = [rule for rule, prior in bounds.priors.items() if not 0.0 <= prior <= 1e5]
    return f"the prior of {bad[0]} is negative or huge" if bad else ""


def settings_of(policy: config.Policy) -> Settings:
    """Return what of a configuration the bounds depend on."""
    return Settings(
        clip=policy.clip,
        cell_weight=policy.cell_weight,
        cells_per_sender=policy.cells_per_sender,
        half_life_s=policy.half_life_s,
        lower=policy.lower,
    )


def doubts(bounds: Bounds, policy: config.Policy, model_id: bytes | None = None) -> list[str]:
    """Return what people should know before they rely on these bounds, one line each."""
    lines = []
    here, there = settings_of(policy), bounds.settings
    changed = [n for n in here.__struct_fields__ if getattr(here, n) != getattr(there, n)]
    if changed and not policy.upper:
        lines.append(
            f"the bounds were calibrated with another policy.{', policy.'.join(changed)}: "
            "their false-alarm rate does not hold; run `ids-appliance calibrate`"
        )
    if model_id is not None and model_id.hex() != bounds.model_id and not policy.upper:
        lines.append(
            f"the bounds were calibrated for model {bounds.model_id}, "
            f"not for {model_id.hex()}: run `ids-appliance calibrate`"
        )
    return lines


@dataclass(frozen=True, slots=True)
class Peaks:
    """The highest score of each sender of a calibration."""

    ordinary: F64
    """(n,)"""
    device_days: float
    malicious: F64 | None = None
    """(m,); None where no labels say who was."""


def least_upper(policy: config.Policy) -> float:
    """Return the lowest bound under which no packet and no two cells decide, whatever ordinary
    senders reach: two cells' whole weight and one packet more. Beside a trigger's prior, which
    stays a packet below it, two witnesses of another kind are still needed."""
    return policy.clip * (2.0 * policy.cell_weight + 1.0)


def quantile(rate: float, peaks: F64) -> float:
    """Return the lowest bound that at most the share `rate` of the senders reach.

    Where n * rate < 1 that is just above the highest score seen: by the rule of three the true rate
    is then below 3 / n with 95 % certainty, and nothing lower can be promised."""
    allowed = int(rate * len(peaks))
    if allowed >= len(peaks):
        return 0.0
    # One step of the fixed point above the first that must not reach it.
    return round(float(np.sort(peaks)[::-1][allowed]) + 1 / 4096, 4)


def table_of(peaks: Peaks, rates: Sequence[float], *, least: float) -> tuple[Row, ...]:
    """Return a row per false-alarm rate, none with a bound below `least`. Raises BoundsError where
    there is nobody to go by."""
    if not len(peaks.ordinary):
        raise BoundsError("no ordinary sender was seen: there is nothing to calibrate by")
    rows = []
    for rate in sorted(set(rates)):
        allowed = quantile(rate, peaks.ordinary)
        upper = max(allowed, least)
        crossed = int(np.count_nonzero(peaks.ordinary >= upper))
        found = None
        if peaks.malicious is not None:
            found = int(np.count_nonzero(peaks.malicious >= upper))
        rows.append(
            Row(
                false_alarms=rate,
                upper=upper,
                quantile=allowed,
                ordinary=crossed,
                per_device_day=crossed / peaks.device_days if peaks.device_days else 0.0,
                malicious=found,
            )
        )
    return tuple(rows)
