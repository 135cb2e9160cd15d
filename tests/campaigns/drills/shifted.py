"""ids-appliance with another wall clock: shifted by the seconds in the file DRILL_CLOCK_OFFSET."""

import os
import time
from pathlib import Path

_true_ns = time.time_ns


def _shifted_ns() -> int:
    text = Path(os.environ["DRILL_CLOCK_OFFSET"]).read_text(encoding="ascii")
    return _true_ns() + int(text or "0") * 10**9


if __name__ == "__main__":
    time.time_ns = _shifted_ns
    from ids_appliance.cli import main  # noqa: PLC0415 - after the clock

    main()
