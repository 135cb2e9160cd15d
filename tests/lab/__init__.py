"""Tests of the lab: most need root and network namespaces."""
