"""Families of models, each against its library."""
