"""Compilers, drivers and the store of what they built."""
