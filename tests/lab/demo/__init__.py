"""Tests of the live demo."""
