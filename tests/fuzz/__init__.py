"""Bytes that nobody meant well in, nothing but errors with a name out: the fuzzers' targets.

A target is a module with `fuzz(data)`, which raises for a finding, and `seeds()`. run.py builds
the compiled modules with sanitizers and coverage and lets libFuzzer at the targets, one by one.
"""
