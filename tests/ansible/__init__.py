"""Tests of the deployment: everyday ones of what is written, and a test bed of booted systems."""
