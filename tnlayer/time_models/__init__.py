"""How long what was lowered takes on a target, in seconds, without running it."""
