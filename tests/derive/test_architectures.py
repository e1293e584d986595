"""Every architecture runs in float64, is small, and depends on all of its weights."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx, traverse_util
from jax.extend import core

from tests.derive.architectures import ARCHITECTURES, apply_of, variables_of

MOST_WEIGHTS = 2000
# Of a leaf's gradient, relative to the largest of the network: rounding is 1e-16.
NOTHING, SOMETHING = 1e-12, 1e-7


def paths_of(theta: dict[str, Any]) -> dict[str, jax.Array]:
    flat: dict[Any, Any] = traverse_util.flatten_dict(theta)
    return {"/".join(path): leaf for path, leaf in flat.items()}


@functools.cache
def outputs_and_gradients(name: str) -> tuple[list[jax.Array], dict[str, float]]:
    """Returns the outputs, and how much a random part of them depends on each leaf."""
    row = ARCHITECTURES[name]
    theta, inputs, apply = variables_of(row, 0), row.inputs(1), apply_of(row)

    def projected(theta: dict[str, Any]) -> tuple[jax.Array, list[jax.Array]]:
        outputs = jax.tree.leaves(apply(theta, *inputs))
        rng = np.random.default_rng(2)
        sums = [jnp.sum(y * rng.normal(size=y.shape)) for y in outputs]
        return sum(sums, jnp.zeros(())), outputs

    gradients, outputs = jax.jit(jax.grad(projected, has_aux=True))(theta)
    largest = {path: float(abs(g).max()) for path, g in paths_of(gradients).items()}
    top = max(largest.values())
    return outputs, {path: size / top for path, size in largest.items()}


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.one_in(3)
def test_runs_in_float64(name: str) -> None:
    outputs, _ = outputs_and_gradients(name)
    assert outputs
    for y in outputs:
        assert y.dtype == jnp.float64
        assert bool(jnp.isfinite(y).all())
        assert float(y.std()) > 1e-3


def dtypes(atoms: Sequence[Any]) -> set[str]:
    return {str(atom.aval.dtype) for atom in atoms}


def narrowed(jaxpr: core.Jaxpr) -> list[str]:
    """Returns the steps of a program, and inside its steps, that lose precision."""
    found = []
    for step in jaxpr.eqns:
        if "float64" in dtypes(step.invars) and "float32" in dtypes(step.outvars):
            found.append(str(step))
        for inner in core.jaxprs_in_params(step.params):
            found += narrowed(inner)
    return found


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_keeps_its_precision(name: str) -> None:
    row = ARCHITECTURES[name]
    program = jax.make_jaxpr(apply_of(row))(variables_of(row, 0), *row.inputs(0))
    assert narrowed(program.jaxpr) == []


def test_a_step_in_float32_is_seen() -> None:
    """A control: the attention of NNX takes the softmax in float32 by default."""
    q = jnp.ones((1, 2, 1, 3), jnp.float64)
    program = jax.make_jaxpr(nnx.dot_product_attention)(q, q, q)
    assert program.out_avals[0].dtype == jnp.float64
    assert narrowed(program.jaxpr)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.one_in(3)
def test_depends_on_every_weight(name: str) -> None:
    _, gradients = outputs_and_gradients(name)
    unread = set(ARCHITECTURES[name].unread)
    assert {path for path, size in gradients.items() if size < NOTHING} == unread
    assert {path for path, size in gradients.items() if size < SOMETHING} == unread


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_is_small(name: str) -> None:
    leaves = paths_of(variables_of(ARCHITECTURES[name], 0)).values()
    assert sum(math.prod(leaf.shape) for leaf in leaves) <= MOST_WEIGHTS


# Of some rows, the names and shapes that files of their originals have.
NAMES: dict[str, dict[str, tuple[int, ...]]] = {
    "gemma": {
        "embedder/input_embedding": (11, 5),
        "layer_1/attn/q_einsum/w": (6, 5, 4),
        "layer_1/attn/kv_einsum/w": (2, 3, 5, 4),
        "layer_1/attn/attn_vec_einsum/w": (6, 4, 5),
        "layer_1/mlp/gating_einsum": (2, 5, 7),
        "layer_1/pre_ffw_norm/scale": (5,),
    },
    "gpt2": {
        "wte/embedding": (11, 6),
        "wpe/embedding": (5, 6),
        "h_0/attn/c_attn/kernel": (6, 18),
        "h_0/mlp/c_fc/kernel": (6, 24),
        "ln_f/scale": (6,),
    },
    "llama": {
        "layers/1/self_attn/k_proj/kernel": (5, 8),
        "layers/1/self_attn/q_proj/kernel": (5, 24),
        "layers/1/mlp/gate_proj/kernel": (5, 7),
        "lm_head/kernel": (5, 11),
    },
    "scanned_transformer": {
        "layers/query/kernel": (3, 5, 2, 4),
        "layers/wi_0/kernel": (3, 5, 7),
        "layers/pre_self_attention_layer_norm/scale": (3, 5),
    },
    "top_k_experts": {
        "moe/gate/kernel": (6, 3),
        "moe/wi": (3, 6, 5),
        "moe/wo": (3, 5, 6),
    },
    "mlp_mixer": {
        "stem/kernel": (3, 3, 2, 7),
        "MixerBlock_1/token_mixing/Dense_0/kernel": (6, 5),
        "MixerBlock_1/channel_mixing/Dense_0/kernel": (7, 9),
    },
    "vit": {
        "cls": (1, 1, 6),
        "pos_embedding": (1, 16, 6),
        "encoderblock_0/MultiHeadDotProductAttention_0/query/kernel": (6, 2, 3),
    },
    "resnet": {
        "params/conv_init/kernel": (3, 3, 2, 5),
        "params/ResNetBlock_1/norm_proj/scale": (6,),
        "batch_stats/ResNetBlock_1/BatchNorm_0/var": (6,),
    },
    "preact_resnet": {"blocks/1/shortcut/kernel": (1, 1, 5, 6), "norm/var": (6,)},
    "mobilenet": {"params/InvertedResidual_0/depthwise/kernel": (3, 3, 1, 9)},
    "plain_unet": {"up_1/Conv_0/kernel": (3, 3, 7 + 6, 4)},
    "weight_norm_mlp": {"WeightNorm_0/Dense_0/kernel/scale": (7,)},
    "lstm": {
        "OptimizedLSTMCell_0/if/kernel": (3, 5),
        "OptimizedLSTMCell_0/hf/bias": (5,),
    },
    "gru_forecaster": {"rnn/cell/dense_h/kernel": (5, 15)},
}


@pytest.mark.parametrize("name", NAMES)
def test_has_the_names_of_its_style(name: str) -> None:
    leaves = paths_of(variables_of(ARCHITECTURES[name], 0))
    shapes = {path: leaf.shape for path, leaf in leaves.items()}
    assert NAMES[name].items() <= shapes.items()


def test_both_styles_are_there() -> None:
    styles = [row.style for row in ARCHITECTURES.values()]
    assert styles.count("nnx") >= 5
    assert styles.count("linen") > styles.count("nnx")


@pytest.mark.parametrize("name", ["resnet", "preact_resnet", "llama"])
def test_weights_are_random_and_generic(name: str) -> None:
    row = ARCHITECTURES[name]
    first, again, other = (paths_of(variables_of(row, seed)) for seed in (0, 0, 1))
    for path, leaf in first.items():
        assert leaf.dtype == jnp.float64
        assert np.array_equal(leaf, again[path])
        assert not np.isin(leaf, (0, 1)).any()
        assert not np.isin(leaf, other[path]).any()
        assert not path.endswith("/var") or float(leaf.min()) > 0


@pytest.mark.parametrize("name", ["resnet", "preact_resnet", "llama"])
def test_weights_go_by_name(name: str) -> None:
    """The order of the keys, which JAX and stores change, says nothing."""

    def turned(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {key: turned(tree[key]) for key in reversed(tree)}
        return tree

    row = ARCHITECTURES[name]
    theta, apply = variables_of(row, 0), apply_of(row)
    x = row.inputs(1)
    assert list(turned(theta)) != list(theta)
    assert np.array_equal(apply(turned(theta), *x), apply(theta, *x))


def test_every_token_occurs() -> None:
    (ids,) = ARCHITECTURES["gpt2"].inputs(3)
    assert ids.dtype == jnp.int32
    assert set(np.ravel(ids).tolist()) == set(range(11))
