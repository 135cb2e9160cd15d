"""Tests on real sockets in network namespaces of their own; they need root."""
