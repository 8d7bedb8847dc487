"""Graph to plan and plan to plan: the backward, slices, recomputation, regions."""
