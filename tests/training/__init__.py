"""Training: data, losses, samplers, runs, merging."""
