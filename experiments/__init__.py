"""Experiments: a folder each, with a config, a short `run`, and a README."""
