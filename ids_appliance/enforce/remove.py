"""Everything of ours in the kernel in, nothing of it out; also when no gateway runs any more."""

from ids_appliance.enforce.nft import Nft
from ids_appliance.enforce.queue_rule import TABLE, remove
from ids_appliance.enforce.tables import Tables
from ids_appliance.enforce.tc import remove_classes
from ids_appliance.errors import EnforceError, PermissionMissing


def running() -> int:
    """Return the process that holds our tables here and lives: it would put back what somebody
    else removes. 0: none, or it cannot be told."""
    try:
        owner = Tables(Nft()).owner()
    except (EnforceError, PermissionMissing):
        return 0
    return owner.pid if owner is not None and owner.alive() else 0


def remove_all() -> list[str]:
    """Remove our tables, those of decisions in one transaction, and traffic classes from this
    network namespace; return their names.

    A table of our name that is not ours stays. No setting outside of them is ever changed, so
    there is nothing else to put back. Raises EnforceError, PermissionMissing.
    """
    nft = Nft()
    inline = [f"inet {TABLE}"] if remove(nft) else []
    return [*inline, *Tables(nft).remove(), *remove_classes()]
