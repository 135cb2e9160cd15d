"""Packet-level intrusion detection for IoT gateways. Read pipeline.py first."""

import importlib

__version__ = "0.1.0"

COMPILED = (
    "_features",
    "_cells",
    "_forest",
    "_wire",
    "_capfile",
    "_ring",
    "_evidence",
    "_screen",
    "_nfqueue",
    "_paced",
)

for _name in COMPILED:
    try:
        importlib.import_module(f"ids_appliance.{_name}")
    except ImportError as error:
        # No fallback in Python: a hot path fifty times slower must not come as a surprise.
        raise ImportError(
            f"compiled module ids_appliance.{_name} cannot be loaded ({error}): run `make build`"
        ) from error
