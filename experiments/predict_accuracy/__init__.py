"""Predict a network's test accuracy from its weights."""
