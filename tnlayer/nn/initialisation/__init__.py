"""How a layer starts: entries are drawn, given or near the identity, and scaled by the variance."""
