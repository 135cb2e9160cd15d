"""The portable monitor: switch, controller, captures."""
