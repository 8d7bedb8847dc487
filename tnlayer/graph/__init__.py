"""What the user said: networks of named tensors and legs, checked; ways in, ways out, drawings."""
