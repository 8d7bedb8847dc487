"""Text only: Python, C++ and CUDA from what was lowered."""
