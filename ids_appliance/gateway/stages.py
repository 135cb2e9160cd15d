"""Settings in, the live gateway's policy and enforcer out."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ids_appliance import config
from ids_appliance.enforce.dryrun import DryRunEnforcer
from ids_appliance.enforce.nftables import NftEnforcer
from ids_appliance.enforce.openflow import OpenFlowEnforcer
from ids_appliance.enforce.openflow_record import remember
from ids_appliance.enforce.protected import ProtectedSets
from ids_appliance.policy.bounds import doubts, read_bounds
from ids_appliance.policy.per_packet import PerPacketPolicy
from ids_appliance.policy.sequential import SequentialPolicy


def make_policy(
    policy: config.Policy, model_id: bytes, *, on_doubt: Callable[[str], None]
) -> SequentialPolicy | PerPacketPolicy:
    """Return the configured policy; `on_doubt` hears what people should know of its bounds.

    Raises BoundsError."""
    if policy.kind == "per_packet":
        return PerPacketPolicy(policy)
    bounds = read_bounds(policy.bounds)
    for line in doubts(bounds, policy, model_id):
        on_doubt(line)
    return SequentialPolicy(policy, bounds)


def make_enforcer(
    whole: config.Config,
    protected: ProtectedSets,
    *,
    names: Sequence[str],
    above: Sequence[str],
    clock: Callable[[], float],
    on_note: Callable[[str, str], None],
) -> NftEnforcer | OpenFlowEnforcer | DryRunEnforcer:
    """Return the configured enforcer, its tables or entries set up. Raises EnforceError."""
    settings = whole.enforce
    if settings.backend == "dry-run":
        return DryRunEnforcer(
            settings, interfaces=names, above=above, protected=protected, clock=clock
        )
    kind = OpenFlowEnforcer if settings.backend == "openflow" else NftEnforcer
    enforcer = kind(
        settings,
        interfaces=names,
        above=above,
        protected=protected,
        clock=clock,
        on_note=on_note,
    )
    if settings.backend == "openflow":
        remember(Path(whole.run_dir), settings.openflow)  # before there is anything to remove
    enforcer.open()
    return enforcer
