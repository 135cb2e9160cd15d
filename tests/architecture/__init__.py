"""Tests of the code itself: layers, style, documents, stubs."""
