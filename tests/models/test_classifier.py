"""Classifiers: invariant for every kind, with and without probes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qejax import models
from tests.layer_specs import fast_jit, random_module
from tests.registry import NETS, RTOL, compiled, element_of, theta_of

CASES = [
    ("sine", "signed", 0),
    ("sine", "attention", 0),
    ("gaussian", "attention", 3),
    ("coordinates, relu with octaves", "attention", 0),
    ("sine", "strict", 0),
    ("sine, then gaussian and relu", "gauge", 0),
    ("sine, then gaussian and relu", "relative", 3),
    ("tanh", "canonical", 0),
    ("gaussian", "signed", 3),
    ("coordinates, relu with octaves", "signed", 3),
    ("coordinates, relu with octaves", "learned_gauge", 0),
]


def classifier(name: str, kind: Any, probes: int, channels: int = 4) -> Any:
    """Of a kind of trunk; "attention" is "signed" with heads."""
    net = NETS[name].net
    quasi, heads = ("signed", 2) if kind == "attention" else (kind, 0)
    config = models.ClassifierConfig(
        depth=1,
        waves=3,
        heads=heads,
        probes=probes,
        hidden=6,
        param_dtype=jnp.float64,
    )
    return random_module(
        lambda: models.Classifier(
            net.spec,
            3,
            channels,
            quasi,
            network=net,
            config=config,
            rngs=nnx.Rngs(0),
        )
    )


@pytest.mark.parametrize(("name", "kind", "probes"), CASES)
def test_logits_do_not_see_the_group(name: str, kind: Any, probes: int) -> None:
    run = fast_jit(classifier(name, kind, probes).__call__)
    spec = NETS[name].net.spec
    theta = theta_of(spec, 0)
    moved = compiled(name).act(element_of(spec, 0, 30.0), theta)
    here, there, other = (
        np.asarray(run(one)) for one in (theta, moved, theta_of(spec, 1))
    )
    spread = np.abs(other - here).max()
    assert here.shape == (3,)
    assert spread > 1e-4
    assert np.abs(there - here).max() < RTOL * spread


def test_probes_alone() -> None:
    run = fast_jit(classifier("sine", "signed", 4, channels=0).__call__)
    one, other = (run(theta_of(NETS["sine"].net.spec, seed)) for seed in (0, 1))
    assert float(jnp.abs(one - other).max()) > 1e-4


def test_dropout_needs_a_key() -> None:
    model = classifier("sine", "signed", 0)
    prepared = model.prepare(theta_of(NETS["sine"].net.spec, 0))
    still = [model.scores(prepared) for _ in range(2)]
    np.testing.assert_array_equal(*still)
    drawn = model.scores(prepared, jax.random.key(0))
    assert float(jnp.abs(drawn - still[0]).max()) > 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"quasi": "free"}, r"Classifier\(quasi=...\): expected one of \['strict'"),
        ({"channels": 0}, "expected channels or probes to read"),
        (
            {"config": models.ClassifierConfig(probes=2)},
            "probes run the network, got network=None",
        ),
    ],
)
def test_what_is_refused(fields: dict[str, Any], message: str) -> None:
    spec = NETS["sine"].net.spec
    with pytest.raises(ValueError, match=message):
        models.Classifier(spec, 3, rngs=nnx.Rngs(0), **fields)
