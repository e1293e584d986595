"""Chooses the weights from which training goes on fastest; the function stays."""
