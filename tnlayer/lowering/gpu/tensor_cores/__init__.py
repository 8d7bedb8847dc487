"""Matrix products by tensor cores."""
