"""Training that computes in bfloat16 ends where training in float32 does."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from qejax import models, nets
from qejax.train import FitConfig, fit
from tests.layer_specs import fast_jit
from tests.registry import theta_of

NET = nets.mlp((3, 4, 2))
NUM = 64


def trained(precision: Any) -> tuple[float, float, Any]:
    """The loss before and after, and the state that was trained."""
    config = models.PredictorConfig(
        depth=1,
        embed=8,
        hidden=8,
        heads=1,
        rank=2,
        carried=2,
        dropout=(0.0, 0.0),
        precision=precision,
    )
    model = models.Predictor(NET.spec, 4, config=config, rngs=nnx.Rngs(0))
    thetas = theta_of(NET.spec, 0, "float32", batch=(NUM,))
    # What is to be learned has no symmetry of its own: it is a function of outputs.
    inputs = jnp.asarray(np.random.default_rng(0).standard_normal((8, 3)), jnp.float32)
    outputs = fast_jit(jax.vmap(NET.apply, (0, None)))(thetas, inputs)
    label = np.abs(np.asarray(outputs)).mean((1, 2))
    label = (label - label.mean()) / label.std()
    measured = fast_jit(jax.vmap(model.measure))(thetas)
    prepared = model.calibrate(measured, label)
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def loss_fn(params: Any, batch: Any, key: Any) -> Any:
        del key
        read = nnx.merge(graph, params, rest).read
        return jnp.mean((jax.vmap(read)(batch["x"]) - batch["y"]) ** 2), {}

    result = fit(
        loss_fn,
        nnx.to_pure_dict(params),
        {"x": prepared, "y": label.astype(np.float32)},
        FitConfig(steps=150, batch_size=32, eval_every=75),
        optimizer=optax.adam(1e-2),
    )
    losses = [row["train"]["loss"] for row in result.history if row["train"]]
    return float(np.var(label)), losses[-1], result.params


def test_bfloat16_learns_as_float32_does() -> None:
    found = {name: trained(name) for name in ("float32", "bfloat16")}
    for start, end, params in found.values():
        assert end < 0.2 * start
        kinds = {x.dtype.name for x in jax.tree.leaves(params)}
        assert kinds == {"float32"}
    # On the scale of the labels, whose variance is one.
    assert abs(found["bfloat16"][1] - found["float32"][1]) < 0.05
    # Control: products were rounded, so the runs are two.
    first, other = (jax.tree.leaves(found[name][2]) for name in found)
    pairs = zip(first, other, strict=True)
    assert any(np.any(a != b) for a, b in pairs)
    np.testing.assert_allclose(found["float32"][0], 1.0, rtol=1e-5)
