"""Timing on this machine: the profile of its rates."""
