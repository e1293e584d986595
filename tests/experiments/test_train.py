import dataclasses

import jax
import numpy as np
import pytest

from experiments.predict_accuracy import train
from experiments.predict_accuracy.buckets import TEST, TRAIN, VALIDATION, Bucket
from experiments.predict_accuracy.config import PRESETS
from experiments.predict_accuracy.flat import COPIES, flat_mlp

CONFIG = dataclasses.replace(
    PRESETS["smoke"][1], seeds=2, steps=60, batch=8, evaluate_every=30, average=0.9
)


def _ignore(share):
    del share


@pytest.fixture(scope="module")
def trained(buckets, tmp_path_factory):
    model = flat_mlp(buckets[0], CONFIG)
    out = tmp_path_factory.mktemp("ckpt")
    return train.train_bucket(model, buckets[0], CONFIG, out, _ignore), out


def test_every_seed_learns_something_of_its_own(trained):
    result, _ = trained
    assert result.tau.shape == (2, 3)
    assert result.tau.max(axis=1).min() > 0.3
    first, second = (jax.tree.map(lambda p, s=s: p[s], result.params) for s in (0, 1))
    assert not np.array_equal(first["first"]["kernel"], second["first"]["kernel"])


def test_predictions_are_accuracies_per_seed(trained, buckets):
    result, _ = trained
    predicted = result.predictor()(buckets[0].readings(VALIDATION))
    truth = buckets[0].accuracy(VALIDATION)
    assert predicted.shape == (2, len(truth))
    assert np.abs(predicted - truth).mean() < np.abs(truth - truth.mean()).mean()


def test_a_finished_row_is_read_and_not_trained_again(trained, buckets):
    result, out = trained
    before = sorted(path.name for path in out.iterdir())
    calls = []
    again = train.train_bucket(
        flat_mlp(buckets[0], CONFIG), buckets[0], CONFIG, out, calls.append
    )
    jax.tree.map(np.testing.assert_array_equal, again.params, result.params)
    assert sorted(path.name for path in out.iterdir()) == before
    assert calls == []  # no step was taken


def test_a_changed_config_does_not_find_a_stale_row(trained, buckets, tmp_path):
    _, out = trained
    other = dataclasses.replace(CONFIG, learning_rate=1e-3)
    train.train_bucket(flat_mlp(buckets[0], other), buckets[0], other, out, _ignore)
    assert len(list(out.iterdir())) == 2


def test_only_training_networks_are_augmented(buckets):
    model = flat_mlp(buckets[0], CONFIG)
    readings = buckets[0].readings(TRAIN)
    assert model.train_inputs is not None
    count = len(buckets[0].accuracy(TRAIN))
    inputs = np.asarray(model.train_inputs(readings))
    assert inputs.shape[0] == COPIES * count
    np.testing.assert_array_equal(inputs[:count], model.inputs(readings))
    assert not np.array_equal(inputs[:count], inputs[count : 2 * count])


def test_a_split_without_networks_is_refused(buckets):
    bucket = buckets[0]
    with pytest.raises(ValueError, match="at least 2 networks in the test split"):
        Bucket(
            "relu",
            bucket.everything,
            bucket.accuracies,
            np.where(bucket.split == TEST, TRAIN, bucket.split),
            images=500,
        )
