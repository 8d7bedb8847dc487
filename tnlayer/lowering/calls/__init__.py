"""Plan to calls of array operations: storage orders and forms of matrix products."""
