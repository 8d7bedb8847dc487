"""Sizes of a topology that use a budget best: leg shapes, bond sizes, padding."""
