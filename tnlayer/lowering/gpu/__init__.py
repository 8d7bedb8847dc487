"""Plan to loop programs for a GPU: registers, shared memory, threads and blocks."""
