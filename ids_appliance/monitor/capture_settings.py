"""The settings of captures at the monitor."""

from ids_appliance.config import Section


class Capture(Section, frozen=True, forbid_unknown_fields=True):
    """What is recorded at the mirror's output port."""
