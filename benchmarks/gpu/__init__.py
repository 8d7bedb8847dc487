"""CUDA kernels: ``python -m benchmarks.gpu.run`` checks and times them on a GPU."""
