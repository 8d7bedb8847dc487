"""Loop programs as CUDA."""
