"""The backends of the package, as targets/backend.py asks for them."""
