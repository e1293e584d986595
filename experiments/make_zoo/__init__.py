"""Zoos of transformers, trained from one seed: see `config`."""
