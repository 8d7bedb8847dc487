"""The layer: it holds the arrays, starts them, and checks what comes in."""
