"""A network of namespaces in which real tools attack and ordinary devices live."""
