"""Running generated code: load it, keep it, put it behind torch's autograd."""
