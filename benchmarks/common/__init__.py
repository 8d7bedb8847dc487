"""What the benchmarks share: workloads, baselines, timing, how results are written."""
