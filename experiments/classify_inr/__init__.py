"""What does a signal show? Read from the weights of a network that was fitted to it."""
