"""Modes and traffic in, the highest rate that each mode takes without loss out."""
