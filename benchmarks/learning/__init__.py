"""Benchmarks of learning: accuracy under drift, cost, forgetting, trials and choices."""
