"""Examples: run them with `python -m examples.NAME`."""
