"""What a user is told: costs, comparisons, explanations."""
