"""Cells in, probabilities out: model bundles, and the classifiers that use them."""
