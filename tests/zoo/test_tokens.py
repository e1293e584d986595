"""Networks that read tokens are trained on integers, and on nothing else."""

import numpy as np
import pytest

from qejax import nets, zoo
from qejax.zoo._data import checked_data

NET = nets.transformer(4, 1, 2, 3, vocabulary=5, length=3, num_outputs=2)


def data(dtype: str) -> zoo.Data:
    x = np.arange(24).reshape(8, 3) % 5
    y = np.arange(8) % 2
    return zoo.Data(x.astype(dtype), y, x.astype(dtype), y)


def test_tokens_stay_integers() -> None:
    config = zoo.ZooConfig(buckets={"words": NET.config}, count=4)
    kept = checked_data(config, data("uint8"))
    assert kept.train_x.dtype == np.int32
    np.testing.assert_array_equal(kept.train_x, data("int64").train_x)


def test_tokens_that_are_no_integers_are_refused() -> None:
    config = zoo.ZooConfig(buckets={"words": NET.config}, count=4)
    with pytest.raises(ValueError, match="do not fit the network of the bucket"):
        checked_data(config, data("float32"))
