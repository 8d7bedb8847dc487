"""The time model of compiled kernels, fitted and judged: ``python -m benchmarks.calibration``."""
