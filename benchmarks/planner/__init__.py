"""How well the planner plans: ``python -m benchmarks.planner.run``."""
