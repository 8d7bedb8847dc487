"""Plan to one product with a matrix of two factors, which is made in tiles and never stored."""
