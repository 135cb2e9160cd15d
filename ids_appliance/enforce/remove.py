"""Everything of ours in the kernel in, nothing of it out; also when no gateway runs any more."""

from ids_appliance.enforce.nft import Nft
from ids_appliance.enforce.tables import Tables


def remove_all() -> list[str]:
    """Remove our tables from this network namespace in one transaction; return their names.

    A table of our name that is not ours stays. No setting outside the tables is ever changed, so
    there is nothing else to put back. Raises EnforceError, PermissionMissing.
    """
    return Tables(Nft()).remove()
