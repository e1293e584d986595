"""Normal forms of one zoo, each process a share of its networks."""

import jax
import numpy as np

from qejax._processes import all_rows
from qejax.zoo._normal import NormalForm, normal_forms
from qejax.zoo._zoo import Zoo


def normal_forms_together(zoo: Zoo) -> NormalForm | None:
    """Returns the normal forms of a zoo that every process has, to all of them.

    The bits are those of one process. Alone it returns None: `store` computes them, a
    shard at a time.
    """
    count, me = jax.process_count(), jax.process_index()
    if count == 1:
        return None
    own = zoo.take(np.array_split(np.arange(len(zoo)), count)[me])
    return all_rows(normal_forms(zoo.network.spec, own.thetas))
