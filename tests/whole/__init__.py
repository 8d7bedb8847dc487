"""What crosses rooms: random graphs, examples, bad weather, hostile documents."""
