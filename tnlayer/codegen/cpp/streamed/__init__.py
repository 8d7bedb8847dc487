"""A batch times a matrix that is made of two factors in tiles: fixed C++, for every layer."""
