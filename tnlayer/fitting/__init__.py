"""Entries for a network from a dense tensor: closed forms, alternating least squares, polishing."""
