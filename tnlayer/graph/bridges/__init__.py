"""Ways from a Graph to other forms and back: networkx, einsum equations, plain documents."""
