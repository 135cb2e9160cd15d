"""Labelled captures in, model bundles out. An extra: needs scikit-learn and tqdm."""
