"""Zoos made from one seed: trained transformers (`config`), fits (`inr_config`)."""
