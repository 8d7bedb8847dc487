"""Plan to one loop program for a CPU with vectors."""
