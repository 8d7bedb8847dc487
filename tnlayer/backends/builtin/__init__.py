"""The backends of the package, as targets/backend.py asks for: torch, cpp, cuda, streamed, mixed."""
