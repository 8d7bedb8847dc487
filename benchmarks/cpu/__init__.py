"""Compiled kernels on a CPU: opponents, targets, what the machine can do."""
