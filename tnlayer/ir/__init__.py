"""Nouns: plans, calls and loop programs as frozen values. Nothing is decided here."""
