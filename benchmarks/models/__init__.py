"""Whole models, compressed and healed: what is lost, what is saved, what it takes."""
