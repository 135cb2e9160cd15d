"""A configuration in, the stages of a gateway that never touches a kernel out: for captures."""

from collections.abc import Callable

from ids_appliance.config import Config
from ids_appliance.enforce.dryrun import DryRunEnforcer
from ids_appliance.enforce.protected import ProtectedSets
from ids_appliance.errors import ConfigError
from ids_appliance.gateway.appliance import Parts
from ids_appliance.gateway.replay import INTERFACE, Direct
from ids_appliance.policy.book import Clock
from ids_appliance.policy.bounds import read_bounds
from ids_appliance.policy.guard import Guard
from ids_appliance.policy.ledger import Ledger
from ids_appliance.policy.per_packet import PerPacketPolicy
from ids_appliance.policy.protect import Protection, SystemFound
from ids_appliance.policy.sequential import SequentialPolicy
from ids_appliance.trigger import embedded
from ids_appliance.trigger.sample import SampleTrigger


def offline_parts(config: Config, now: Callable[[], int]) -> Parts:
    """Return the stages; `now` is packet time. Who is protected is what the configuration names:
    a capture has no routing table. Raises ConfigError, BoundsError."""
    if config.trigger.kind == "zeek":
        raise ConfigError('a replay has no Zeek: set trigger.kind = "embedded"')
    guard = Guard(Protection(config.protect, SystemFound(captured=(INTERFACE,))))
    ledger = Ledger(
        config.policy,
        config.enforce,
        guard=guard,
        names=lambda index: INTERFACE,
        clock=Clock(now=now, wall=now),
    )
    policy: SequentialPolicy | PerPacketPolicy
    if config.policy.kind == "per_packet":
        policy = PerPacketPolicy(config.policy)
    else:
        policy = SequentialPolicy(config.policy, read_bounds(config.policy.bounds))
    return Parts(
        screen=embedded.build(config.trigger),
        policy=policy,
        ledger=ledger,
        kernel=Direct(
            DryRunEnforcer(
                config.enforce,
                interfaces=(INTERFACE,),
                protected=ProtectedSets(),
                clock=lambda: now() / 1e9,
            )
        ),
        ifindex=lambda name: 0,
        triggers=(SampleTrigger(config.window),),
    )
