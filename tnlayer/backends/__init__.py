"""What runs a plan: the compiled kernels and the tools that build them."""
