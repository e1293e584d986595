"""Published predictors, for comparison side by side: PyTorch, extra `peers`.

Every model here takes `(weights, biases)`: tuples of tensors in PyTorch's order,
`weights[l]: [B, n_l, n_{l-1}, ...kernel]` and `biases[l]: [B, n_l]`, and returns `[B]`
predicted accuracies.
"""
