"""The gateway's own command line in, the gateway almost without a cell cache out.

    python -m ids_appliance.bench.uncached gateway --config FILE

Room for one set of known cells stays, as the cache knows no smaller size, and packets of a cell
that is being asked wait for that answer. No setting of the product does this, so it is done here.
"""

import functools
import runpy
import sys

from ids_appliance.gateway import runtime
from ids_appliance.pipeline import Limits


def main() -> None:
    """Be the process."""
    vars(runtime)["Limits"] = functools.partial(Limits, cache_cells=1)
    sys.argv[0] = "ids-appliance"
    runpy.run_module("ids_appliance", run_name="__main__")


if __name__ == "__main__":
    main()
