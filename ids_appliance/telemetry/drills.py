"""An interface in, whether it is a drill's out: what is seen there is labelled everywhere.

By the port and nothing else: whoever is on the network can take any MAC and address, but cannot
come in by a port that only a drill's namespace is behind.
"""

from typing import Final

PORTS: Final = "ids-drill"
"""Names of a drill's ports begin so."""


def is_drill(interface: str) -> bool:
    """Say whether a port is a drill's."""
    return interface.startswith(PORTS)


def names_drill(text: str) -> bool:
    """Say whether a sender as people read it, MAC@PORT, is a drill's."""
    return is_drill(text.rpartition("@")[2]) and "@" in text
