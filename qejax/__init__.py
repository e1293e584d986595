"""Quasi-equivariant metanetworks: networks that read other networks.

The rooms, low to high; each is imported by its own name:

- `qejax.groups`: what can act on hidden units.
- `qejax.spaces`: what moves what in the weights of one architecture.
- `qejax.gauges`: points of an orbit by hand-made rules, and rounded weights.
- `qejax.nets`: input networks, the networks that are read.
- `qejax.testing`: the laws as callable checks.
- `qejax.layers`: Flax NNX modules over weight-space features.
- `qejax.models`: whole metanetworks.
- `qejax.zoo`: many small trained networks: generate, store, read.
- `qejax.train`: loop, metrics, checkpoints.
- `qejax.derive`: the weight space of any function, from what it computes.
- `qejax.match`: two networks brought together, and what lies between them.
"""

__version__ = "0.1.0"
