"""Edits images by the weights of the coordinate networks that hold them."""
