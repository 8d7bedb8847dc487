"""What hardware is: processors, GPUs, and which of them this process has."""
