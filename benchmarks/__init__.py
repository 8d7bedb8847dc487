"""Benchmarks and the tables of the paper, printed by ``python -m benchmarks.NAME``."""
