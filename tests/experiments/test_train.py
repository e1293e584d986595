import dataclasses

import jax
import numpy as np
import pytest

from experiments.predict_accuracy import metanets, train
from experiments.predict_accuracy.buckets import TEST, TRAIN, VALIDATION, Bucket
from experiments.predict_accuracy.config import PRESETS

CONFIG = dataclasses.replace(
    PRESETS["smoke"][1], seeds=2, steps=200, batch=8, evaluate_every=100
)


def _ignore(share, found):
    del share, found


def flat_mlp(bucket, config):
    (net,) = (m for m in metanets.metanets(config) if m.name == "flat_mlp")
    return metanets.make_model(net, bucket, config)


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
    differs = jax.tree.map(lambda p, q: not np.array_equal(p, q), first, second)
    assert any(jax.tree.leaves(differs))


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
        flat_mlp(buckets[0], CONFIG),
        buckets[0],
        CONFIG,
        out,
        lambda share, found: calls.append((share, found)),
    )
    jax.tree.map(np.testing.assert_array_equal, again.params, result.params)
    assert sorted(path.name for path in out.iterdir()) == before
    assert calls == [(1.0, 1.0)]  # no step was taken


def test_a_changed_config_does_not_find_a_stale_row(trained, buckets):
    _, out = trained
    faster = dataclasses.replace(CONFIG, learning_rate=1e-3)
    surer = dataclasses.replace(buckets[0], images=5000)
    for number, (bucket, config) in enumerate(
        ((buckets[0], faster), (surer, CONFIG)), start=2
    ):
        train.train_bucket(flat_mlp(bucket, config), bucket, config, out, _ignore)
        assert len(list(out.iterdir())) == number


def test_only_training_networks_are_augmented(buckets):
    model = flat_mlp(buckets[0], CONFIG)
    inputs, labels = model.training
    own = buckets[0].accuracy(TRAIN)
    np.testing.assert_allclose(labels, np.tile(own, metanets.COPIES), rtol=1e-6)
    first = np.asarray(jax.tree.leaves(inputs)[0])
    assert len(first) == metanets.COPIES * len(own)
    assert not np.array_equal(first[: len(own)], first[len(own) : 2 * len(own)])


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
