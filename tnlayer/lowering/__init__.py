"""Plan to calls, and calls to loop programs for a CPU and a GPU."""
