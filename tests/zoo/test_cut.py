"""Cut-offs: what is left is split anew, and nothing changes at zero."""

from dataclasses import replace

import numpy as np
import pytest

from qejax import nets, zoo
from tests.zoo.random_zoo import random_zoo

ZOO = random_zoo(nets.mlp((3, 2, 2)), 40)


def test_what_is_left_is_split_anew() -> None:
    kept = zoo.keep_accurate(ZOO, 0.5, split_seed=3)
    rows = np.flatnonzero(ZOO.labels["test_accuracy"] >= 0.5)
    assert 0 < len(rows) < len(ZOO)
    np.testing.assert_array_equal(kept.ids, ZOO.ids[rows])
    np.testing.assert_array_equal(kept.vectors(), ZOO.vectors()[rows])
    np.testing.assert_array_equal(kept.split, zoo.split_networks(len(rows), 3))
    assert zoo.keep_accurate(ZOO, 0.0) is ZOO


def test_cut_offs_that_leave_nothing_are_named() -> None:
    with pytest.raises(ValueError, match=r"a test: no network has .* cut_off=1; the"):
        zoo.keep_accurate(ZOO, 1.0)
    with pytest.raises(ValueError, match=r"cut_off should be in \[0, 1\], got -0.1"):
        zoo.keep_accurate(ZOO, -0.1)
    with pytest.raises(ValueError, match=r"needs the label 'test_accuracy', got \[\]"):
        zoo.keep_accurate(replace(ZOO, labels={}), 0.5)
