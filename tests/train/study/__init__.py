"""Studies: splits, figures, replays and the report."""
