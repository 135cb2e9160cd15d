"""Decisions into the kernel or a switch, or a dry run. Read nftables.py, or openflow_entries.py."""
