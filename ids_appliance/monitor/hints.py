"""A monitor's settings in, what may be meant but has a price out: one line each, for people."""

from ids_appliance.monitor.settings import Monitor

FLUSHED = (
    'Hint: fail_mode = "standalone" with a controller: while it is away Open vSwitch drops all '
    'flow entries, quarantines by flow entries too; where the appliance acts by them set "secure"'
)
"""ovs-vsctl(8), Controller Failure Settings; seen with tests.campaigns.monitor_controller."""


def hints(monitor: Monitor) -> list[str]:
    """Return what to think of, in lines; empty where nothing is to be said."""
    if monitor.controller.connect and monitor.bridge.fail_mode == "standalone":
        return [FLUSHED]
    return []
