"""Chooses the weights of a network that rounding hurts least; its function stays."""
