"""The layer, and how its entries are initialised."""
