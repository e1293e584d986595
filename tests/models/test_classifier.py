"""Classifiers: invariant for every kind, with and without probes, and never blind."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qejax import models, testing
from tests.layer_specs import fast_jit, random_module
from tests.registry import NETS, RTOL, compiled, element_of, theta_of

RELU, TURNS = "coordinates, relu with octaves", "sine, then gaussian and relu"
CASES = [
    ("sine", "signed", 0),
    ("sine", "attention", 0),
    ("sine", "strict", 0),
    ("sine", "gauge", 0),
    ("sine", "relative", 0),
    ("sine", "canonical", 0),
    ("tanh", "signed", 0),
    ("tanh", "canonical", 0),
    ("gaussian", "signed", 3),
    ("gaussian", "attention", 3),
    ("gaussian", "strict", 0),
    ("gaussian", "canonical", 0),
    (RELU, "signed", 3),
    (RELU, "attention", 0),
    (RELU, "strict", 0),
    (RELU, "gauge", 0),
    (RELU, "relative", 0),
    (RELU, "canonical", 0),
    (RELU, "learned_gauge", 0),
    (TURNS, "gauge", 0),
    (TURNS, "relative", 3),
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
        precision="float64",
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


@functools.cache
def program(name: str, kind: str, probes: int) -> Callable[[Any], Any]:
    return fast_jit(classifier(name, kind, probes).__call__)


def gap_and_spread(run: Callable[[Any], Any], name: str) -> tuple[float, float]:
    """How far scores move along an orbit, and from one network to another."""
    spec = NETS[name].net.spec
    theta = theta_of(spec, 0)
    moved = compiled(name).act(element_of(spec, 0, 30.0), theta)
    here, there, other = (
        np.asarray(run(one)) for one in (theta, moved, theta_of(spec, 1))
    )
    return float(np.abs(there - here).max()), float(np.abs(other - here).max())


@pytest.mark.parametrize(("name", "kind", "probes"), CASES)
@pytest.mark.one_in(4)
def test_logits_do_not_see_the_group(name: str, kind: str, probes: int) -> None:
    run = program(name, kind, probes)
    assert run(theta_of(NETS[name].net.spec, 0)).shape == (3,)
    gap, spread = gap_and_spread(run, name)
    assert spread > 1e-4
    assert gap < RTOL * spread


def raw(name: str) -> Any:
    """Reads the weights as one vector."""
    model = models.FlatMLP(NETS[name].net.spec, (6,), outputs=3, rngs=nnx.Rngs(0))
    return lambda theta: model.scores(model.prepare(theta))


def of_fewer_signs(name: str) -> Any:
    """Takes units that flip for units that only have no order."""
    spec = NETS[name].net.spec.permutations_only()
    config = models.ClassifierConfig(depth=1, waves=3, hidden=6)
    return random_module(
        lambda: models.Classifier(spec, 3, 4, config=config, rngs=nnx.Rngs(0))
    )


@pytest.mark.parametrize("wrong", [raw, of_fewer_signs])
def test_control_of_invariance(wrong: Callable[[str], Any]) -> None:
    gap, spread = gap_and_spread(fast_jit(wrong("tanh")), "tanh")
    assert gap > 1e-2 * spread > 1e-6


SEEING = [(name, kind) for name, kind, probes in CASES if not probes]
"""Without probes: those run the network, and so see all of it."""


@pytest.mark.parametrize(("name", "kind"), SEEING)
@pytest.mark.one_in(4)
def test_logits_see_every_leaf(name: str, kind: str) -> None:
    spec = NETS[name].net.spec
    theta, key = theta_of(spec, 0), jax.random.key(0)
    testing.assert_sensitive(program(name, kind, 0), spec, theta, key)


@pytest.mark.parametrize("path", ["layer_00/bias", "layer_02/kernel"])
def test_control_of_sensitivity(path: str) -> None:
    """Logits of a network one leaf of which was put in by us."""
    run, spec = program("tanh", "signed", 0), NETS["tanh"].net.spec
    layer, leaf = path.split("/")
    theta, key = theta_of(spec, 0), jax.random.key(0)

    def blind(other: Any) -> Any:
        return run({**other, layer: {**other[layer], leaf: theta[layer][leaf]}})

    with pytest.raises(AssertionError, match=f"leaf '{path}' is redrawn"):
        testing.assert_sensitive(blind, spec, theta, key)


def test_probes_alone() -> None:
    run = fast_jit(classifier("sine", "signed", 4, channels=0).__call__)
    one, other = (run(theta_of(NETS["sine"].net.spec, seed)) for seed in (0, 1))
    assert float(jnp.abs(one - other).max()) > 1e-4


def test_dropout_needs_a_key() -> None:
    model = classifier("sine", "signed", 0)
    prepared = fast_jit(model.prepare)(theta_of(NETS["sine"].net.spec, 0))
    run = fast_jit(model.scores)
    still = [run(prepared) for _ in range(2)]
    np.testing.assert_array_equal(*still)
    drawn = run(prepared, jax.random.key(0))
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
        (
            {"quasi": "strict", "config": models.ClassifierConfig(heads=2)},
            r"Classifier\(config.heads=2\): expected heads of the kind 'signed' alone",
        ),
    ],
)
def test_what_is_refused(fields: dict[str, Any], message: str) -> None:
    spec = NETS["sine"].net.spec
    with pytest.raises(ValueError, match=message):
        models.Classifier(spec, 3, rngs=nnx.Rngs(0), **fields)
