"""Rows of units: the entries that an element moves, and what a leaf writes."""

from typing import Any

import jax
import numpy as np
import pytest

from qejax import spaces
from tests.layer_specs import HEADS, SPECS
from tests.registry import NETS, theta_of

EVERY = SPECS | HEADS | {name: row.net.spec for name, row in NETS.items()}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.one_in(3)
def test_rows_hold_every_entry_of_every_unit(name: str) -> None:
    spec = EVERY[name]
    leaves: Any = jax.tree.map(np.asarray, spaces.views(spec, theta_of(spec, 0)))
    for space in spec.spaces:
        rows = spaces.rows_of(spec, space.name, leaves)
        axes = [a for leaf in spec.leaves for a in leaf.axes if a.space == space.name]
        assert len(rows) == len(axes)
        for row, axis in zip(rows, axes, strict=True):
            assert (row.power, row.turn) == (axis.power, axis.turn)
            lead = (*spec.per_size(space), space.size)
            assert row.values.shape[:-1] == lead
            x, at = leaves[row.leaf.path], row.position
            host = spec.per_axis(row.leaf, at)
            for index in np.ndindex(*lead):
                own = np.take(x, index[-1], at)
                if host is not None:
                    own = np.take(own, index[0], host)
                np.testing.assert_array_equal(row.values[index], own.ravel())


def test_keys_and_gates_write_what_their_powers_do_not_say() -> None:
    spec = NETS["language, rotary, grouped, gated"].net.spec
    at = "block_00/"
    wants = {
        "attention/query/kernel": ((2, 3, 4), (0, 1)),
        "attention/key/kernel": ((2, 3), (0, 1)),
        "attention/out/kernel": ((3,), (0, 1, 2)),
        "mlp/up/kernel": ((2, 3), (0, 1)),
        "mlp/down/kernel": ((2,), (0, 1)),
        "norm_1/scale": ((0, 1), ()),
    }
    for path, want in wants.items():
        leaf = spec.leaf_by_path[at + path]
        assert (spaces.written(spec, leaf), spaces.read(spec, leaf)) == want, path
        assert spaces.multiplies(spec, leaf) == path.endswith("kernel")
    biased = NETS["rms without scale, rotary, grouped"].net.spec
    key = biased.leaf_by_path[at + "attention/key/bias"]
    assert not spaces.multiplies(biased, key)
    (row,) = [
        row
        for row in spaces.rows_of(
            biased, "block_00.attention.qk", spaces.views(biased, theta_of(biased, 0))
        )
        if row.leaf is key
    ]
    assert not row.multiplies
