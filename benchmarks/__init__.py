"""Benchmarks: a question, a stamped answer in `benchmarks/results/`."""
