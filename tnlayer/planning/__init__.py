"""The choice of a plan: search, candidates, ranking, ranges of batch sizes, the store."""
