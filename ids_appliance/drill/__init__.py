"""Simulated anomalies in, through the real path; when each part of the gateway noticed, out."""
