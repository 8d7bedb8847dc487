"""Benchmarks and the tables of the paper, printed by ``python -m benchmarks.NAME``.

A file here is a command; the folders hold what commands are made of, or are commands themselves:

    common        workloads, baselines, timing, how results are written
    cpu           what compiled kernels are held against: opponents, targets, peaks of the machine
    gpu           CUDA kernels on a GPU: checks, memory, times
    planner       predicted against measured time
    calibration   the time model of compiled kernels, fitted and judged
    results       JSON of runs, each with machine, versions and commit
"""
