"""Public zoos as `Zoo`s, without executing anything that is in them."""
