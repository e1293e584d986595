"""Aligns networks that were trained apart, and measures what lies between them."""
