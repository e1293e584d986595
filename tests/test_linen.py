"""Every module goes into a Linen model through the bridge, and is the same there."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx, traverse_util
from flax.nnx import bridge

from qejax import layers, models, nets, spaces
from tests.layer_specs import fast_jit, randomise
from tests.registry import theta_of

NET = nets.mlp((2, 2, 2))
SPEC = NET.spec
GRAPH = layers.graph_of(SPEC.permutations_only())
THETA = theta_of(SPEC, 0, "float32")
FEATS = layers.features(SPEC, THETA)
ARRANGED = layers.arrange(GRAPH, spaces.views(SPEC, THETA))
CHANNELS = jax.tree.map(
    lambda x: jnp.repeat(x[..., :1], 2, -1), ARRANGED._replace(globe=jnp.ones(1))
)
SIZE = nets.size_of(NET)
CHAIN = nets.padded(NET, THETA)
MIXED = models.MixedConfig(depth=1, hidden_units=3, embed=3, hidden=3, heads=1)
SMALL = models.PredictorConfig(depth=1, embed=3, hidden=3, heads=1, rank=2, carried=2)
CHOICE = models.GaugeConfig(sweeps=2, rounds=1, hidden=3, rank=2)
LOW = replace(SMALL, precision="bfloat16")


class Case(NamedTuple):
    """A class, its arguments, and what it is called with."""

    make: Callable[..., Any]
    args: tuple[Any, ...]
    inputs: tuple[Any, ...]
    options: tuple[tuple[str, Any], ...] = ()


GAUGE = functools.partial(layers.GaugeAlpha, SPEC, 1)
RELATIVE = functools.partial(layers.RelativeAlpha, SPEC, 1, 2)
LINEAR = functools.partial(layers.MonomialLinear, SPEC, 1, 2)
MODULES = (GAUGE(rngs=nnx.Rngs(0)), LINEAR(rngs=nnx.Rngs(1)))

HEADS = spaces.attention(
    "", spaces.Wire(3), spaces.Wire(3), heads=2, head_dim=2, use_bias=False
).spec()
OF_HEADS = {
    path: jnp.concatenate([x, 2 * x], -1)
    for path, x in layers.features(HEADS, theta_of(HEADS, 0, "float32")).items()
}
PAIR = layers.pair_of(HEADS, layers.linear_spaces(HEADS)[0])

TANH = nets.mlp_spec((2, 3, 2), activation="tanh")
TANH_LEAVES = spaces.views(TANH, theta_of(TANH, 0, "float32"))

CASES = {
    "Bonds": Case(
        layers.Bonds, (HEADS, 2), (OF_HEADS,), (("mix", True), ("max_dense", 4))
    ),
    "Conjugation": Case(layers.Conjugation, (HEADS, PAIR, 2), (OF_HEADS,)),
    "MonomialLinear": Case(layers.MonomialLinear, (SPEC, 1, 2), (FEATS,)),
    "CovariantStream": Case(layers.CovariantStream, (SPEC, 1, 2), (FEATS,)),
    "InvariantUnits": Case(layers.InvariantUnits, (SPEC, 1, 2), (FEATS,)),
    "InvariantPool": Case(layers.InvariantPool, (SPEC, 1, 2), (FEATS,)),
    "GaugeAlpha": Case(layers.GaugeAlpha, (SPEC, 1), (FEATS,)),
    "RelativeAlpha": Case(layers.RelativeAlpha, (SPEC, 1, 2), (FEATS,)),
    "LearnedGauge": Case(layers.LearnedGauge, (SPEC, 1), (FEATS,)),
    "QuasiEquivariant": Case(layers.QuasiEquivariant, (GAUGE, LINEAR), (FEATS,)),
    "QuasiEquivariant, relative": Case(
        layers.QuasiEquivariant, (RELATIVE, LINEAR), (FEATS,)
    ),
    "QuasiEquivariant of modules": Case(layers.QuasiEquivariant, MODULES, (FEATS,)),
    "InvariantHead": Case(
        layers.InvariantHead, ((2, 3),), ((jnp.ones(2), jnp.ones(3)),)
    ),
    "NodeEmbed": Case(layers.NodeEmbed, (GRAPH, 2), (ARRANGED,)),
    "Embed": Case(layers.Embed, (GRAPH, 2), (ARRANGED,)),
    "MessagePassing": Case(layers.MessagePassing, (GRAPH, 2), (CHANNELS,)),
    "MessageStack": Case(layers.MessageStack, (GRAPH, 2), (ARRANGED,)),
    "Transport": Case(layers.Transport, (GRAPH, 2), (ARRANGED,)),
    "SignedTransport": Case(
        layers.SignedTransport, (SPEC, 2), (spaces.views(SPEC, THETA),)
    ),
    "SignedTransport, attention": Case(
        layers.SignedTransport,
        (SPEC, 2),
        (spaces.views(SPEC, THETA),),
        (("heads", 2),),
    ),
    "ChainPassing": Case(
        layers.ChainPassing,
        (2, (SIZE.window, SIZE.inputs, SIZE.head, SIZE.outputs), nets.NUM_FACTS),
        (CHAIN,),
        (("hidden", 3), ("depth", 1)),
    ),
    "InputWaves": Case(layers.InputWaves, (TANH, 2), (TANH_LEAVES,)),
    "WaveFeatures": Case(layers.WaveFeatures, (TANH, 2, 3), (TANH_LEAVES,)),
    "ProbeStream": Case(layers.ProbeStream, (NET, (2,), 2), (THETA,)),
    **{
        f"Predictor, {kind}": Case(
            models.Predictor, (SPEC, 2, kind), (THETA,), (("config", SMALL),)
        )
        for kind in models.TRUNKS
    },
    "Predictor, bfloat16": Case(
        models.Predictor, (SPEC, 2), (THETA,), (("config", LOW),)
    ),
    "Classifier": Case(models.Classifier, (SPEC, 3, 2), (THETA,)),
    "Editor": Case(models.Editor, (SPEC, 2), (THETA,)),
    "MixedPredictor": Case(
        models.MixedPredictor, (SIZE, 2), (CHAIN,), (("config", MIXED),)
    ),
    "FlatMLP": Case(models.FlatMLP, (SPEC, (3,)), (THETA,)),
    **{
        f"Gauge, {kind}": Case(
            models.Gauge, (SPEC, kind), (THETA,), (("config", CHOICE),)
        )
        for kind in ("gauge", "strict")
    },
}


def test_every_module_has_a_case() -> None:
    for room in (layers, models):
        exported = {
            name
            for name in room.__all__
            if inspect.isclass(getattr(room, name))
            and issubclass(getattr(room, name), nnx.Module)
        }
        assert exported <= {name.split(",")[0] for name in CASES}


def in_linen(case: Case) -> nn.Module:
    class Model(nn.Module):
        @nn.compact
        def __call__(self, *inputs: Any) -> Any:
            part = bridge.to_linen(
                case.make, *case.args, **dict(case.options), name="part"
            )
            return part(*inputs)

    return Model()


def with_variables(case: Case, variables: Any) -> Any:
    """The NNX module that has the variables of the Linen model, all collections."""
    graph = nnx.graphdef(
        nnx.eval_shape(
            lambda: case.make(*case.args, **dict(case.options), rngs=nnx.Rngs(0))
        )
    )
    flat: dict[Any, Any] = {}
    for collection in variables.values():
        flat |= traverse_util.flatten_dict(collection["part"])
    return nnx.merge(graph, traverse_util.unflatten_dict(flat))


def drawn(model: nn.Module, inputs: tuple[Any, ...]) -> dict[str, Any]:
    """Variables of a Linen model: parameters random, all other collections its own.

    Initialisers are traced, not compiled: they would be half of every program.
    """
    key = jax.random.key(0)
    params = randomise(jax.eval_shape(model.init, key, *inputs)["params"])

    @fast_jit
    def constants(key: jax.Array, *inputs: Any) -> Any:
        variables = model.init(key, *inputs)
        return {kind: x for kind, x in variables.items() if kind != "params"}

    return {"params": params, **constants(key, *inputs)}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.one_in(4)
def test_the_same_inside_a_linen_model(name: str) -> None:
    case = CASES[name]
    model = in_linen(case)

    @fast_jit
    def run(variables: Any, *inputs: Any) -> Any:
        rest = {k: v for k, v in variables.items() if k != "params"}

        def loss(params: Any) -> tuple[jax.Array, Any]:
            out = model.apply({"params": params, **rest}, *inputs)
            total = sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(out))
            return jnp.asarray(total), out

        gradient, out = jax.grad(loss, has_aux=True)(variables["params"])
        return gradient, out, with_variables(case, variables)(*inputs)

    gradient, out, expected = run(drawn(model, case.inputs), *case.inputs)
    leaves = jax.tree.leaves(gradient)
    assert all(np.all(np.isfinite(x)) for x in leaves)
    assert any(np.any(x != 0) for x in leaves)
    assert jax.tree.leaves(out)
    for got, want in zip(jax.tree.leaves(out), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)
