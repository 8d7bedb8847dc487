"""Whole models: what each module costs, which networks could stand there, putting them there."""
