"""Settings in, the live gateway's policy and enforcer out."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ids_appliance import config
from ids_appliance.config_file import host_port
from ids_appliance.enforce.classed import ClassedEnforcer
from ids_appliance.enforce.dryrun import DryRunEnforcer
from ids_appliance.enforce.nftables import NftEnforcer
from ids_appliance.enforce.openflow import OpenFlowEnforcer
from ids_appliance.enforce.openflow_record import remember
from ids_appliance.enforce.protected import ProtectedSets
from ids_appliance.enforce.tc import TrafficClasses, left_behind, remove_classes
from ids_appliance.errors import EnforceError, PermissionMissing
from ids_appliance.gateway.sockets import panicked
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
) -> NftEnforcer | OpenFlowEnforcer | DryRunEnforcer | ClassedEnforcer:
    """Return the configured enforcer, its tables or entries and traffic classes set up.

    Raises EnforceError."""
    settings = whole.enforce
    if settings.backend == "dry-run":
        dry = DryRunEnforcer(
            settings, interfaces=names, above=above, protected=protected, clock=clock
        )
        dry.set_classes(tuple(whole.tc.rates))
        return dry
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
    if whole.tc.rates:
        made = _classed(whole, enforcer, clock=clock, on_note=on_note)
        made.open()
        return made
    enforcer.open()
    with suppress(EnforceError, PermissionMissing):  # the openflow backend may do without both
        if left_behind():  # by a configuration that had rates
            for what in remove_classes():
                on_note("rebuilt", f"removed what no setting asks for any more: {what}")
    return enforcer


def _classed(
    whole: config.Config,
    enforcer: NftEnforcer | OpenFlowEnforcer,
    *,
    clock: Callable[[], float],
    on_note: Callable[[str, str], None],
) -> ClassedEnforcer:
    classes = TrafficClasses(
        whole.tc,
        node_ports=[host_port(address)[1] for address in whole.node.addresses],
        uid=os.geteuid(),
        clock=clock,
        on_note=on_note,
    )
    mark = enforcer.set_classes if isinstance(enforcer, NftEnforcer) else lambda names: None
    run_dir = Path(whole.run_dir)
    return ClassedEnforcer(
        enforcer, classes, on_standing=mark, held=lambda: panicked(run_dir), on_note=on_note
    )
