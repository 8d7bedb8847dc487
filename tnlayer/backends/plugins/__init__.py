"""The backends of the package, each as planner and reports see it: torch, cpp, cuda, mixed."""
