"""Decisions into the kernel: nftables, or a dry run with the same contract. Read nftables.py."""
