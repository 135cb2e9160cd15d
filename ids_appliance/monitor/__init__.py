"""A topology on paper in, a running switch with hosts, mirror and uplink out; and back."""
