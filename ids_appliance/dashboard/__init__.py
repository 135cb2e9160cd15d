"""A running gateway in a browser: what it does in, charts, tables and a few buttons out."""
