"""The dense matrix of a group element in plain NumPy, entry by entry.

Independent of `spaces.act` and `spaces.dense_matrix`: it reads the definition of the
action (an entry of the result is an entry of the weights times scales) and nothing
else. Slow and obvious.
"""

import numpy as np

from qejax.spaces import Elements, WeightSpec


def rho(spec: WeightSpec, g: Elements) -> np.ndarray:
    """`rho(g)` with `ravel(act(g, theta)) == rho(g) @ ravel(theta)`, `[P, P]`."""
    perm = {name: np.asarray(element.perm) for name, element in g.items()}
    scale = {name: np.asarray(element.scale) for name, element in g.items()}
    matrix = np.zeros((spec.num_parameters, spec.num_parameters))
    start = 0
    for leaf in spec.leaves:
        for target in np.ndindex(*leaf.view):
            source, factor = list(target), 1.0
            for position, axis in enumerate(leaf.axes):
                if axis.space is not None:
                    unit = target[position]
                    source[position] = int(perm[axis.space][unit])
                    factor *= float(scale[axis.space][unit]) ** axis.power
            row = np.ravel_multi_index(target, leaf.view)
            column = np.ravel_multi_index(tuple(source), leaf.view)
            matrix[start + row, start + column] = factor
        start += leaf.size
    return matrix
