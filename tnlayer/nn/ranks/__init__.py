"""Other sizes of bonds of a layer that has entries: fewer indices, or more."""
