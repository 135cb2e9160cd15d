"""Triggers, the screen around the compiled rules, the scrutiny window and the gate."""
