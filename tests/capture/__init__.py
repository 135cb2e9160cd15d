"""Tests of capture files, rings and interfaces."""
