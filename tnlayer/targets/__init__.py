"""What a plan can run on: targets, backends by name, and plans lowered to values."""
