"""An interface in, how many frames its ring has delivered out: the ceiling of whoever looks at all.

    python -m ids_appliance.bench.tap INTERFACE MIB RETIRE_MS

The same ring with the same settings as the gateway's; the reader only counts. After `ready` it
answers every line on standard input by a JSON object.
"""

import json
import os
import select
import sys
from contextlib import closing

from ids_appliance.capture.ring import RingOptions, RingSource


def main(arguments: list[str]) -> None:
    """Be the process; ends with its standard input."""
    interface, mib, retire_ms = arguments[0], int(arguments[1]), int(arguments[2])
    options = RingOptions(blocks=max(2, mib * 4), retire_ms=retire_ms)
    with closing(RingSource(interface, options)) as source:
        print("ready", flush=True)
        judged = 0
        for batch in source.batches():
            if batch is not None:
                judged += len(batch.frames)
                continue
            # Nothing has come for a while: now a question may be answered.
            if select.select([0], [], [], 0)[0]:
                if not os.read(0, 4096):
                    return
                print(json.dumps({"judged": judged} | source.counters()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
