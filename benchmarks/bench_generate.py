"""How fast are many small networks trained at once, against bare products and a loop?

For an MLP and a CNN on 8x8 images, one chunk of `zoo.generate`:

- `at_once`: the compiled program of the library, initial weights and evaluation on all
  data included; `at_once_dropout` with dropout in every network;
- `bare_products`: every matrix product of one training step, found in its jaxpr, alone
  in one compiled function, on random numbers of the same shapes;
- `loop`: one network at a time, a Python loop over a jitted optax step with donated
  state; `loop_convolution` with `lax.conv_general_dilated` in place of patches.

`rate_ratio` is the floating-point rate of `at_once` (products of its training steps
only) over the rate of `bare_products`; `loop_ratio` is networks per second over those
of the faster loop. Run on a quiet machine:

    python -m benchmarks.bench_generate
"""

import argparse
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from benchmarks import harness
from qejax import nets, zoo
from qejax.zoo import _hyper, _train_many

NETWORKS = {
    "mlp": nets.MLPConfig((64, 32, 16, 10)),
    "cnn": nets.CNNConfig(1, (8, 16), 3, (1, 2), image=(8, 8)),
}
POINTS, TEST_POINTS = 1200, 597
CHECK_STEPS = 10
RATE = 1e-3


def _data() -> zoo.Data:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, POINTS + TEST_POINTS).astype(np.int32)
    centre = rng.normal(size=(10, 8, 8, 1))
    x = (centre[y] + rng.normal(size=(len(y), 8, 8, 1))).astype(np.float32)
    return zoo.Data(*map(jnp.asarray, (x[:POINTS], y[:POINTS], x[POINTS:], y[POINTS:])))


def _chunk(config: zoo.ZooConfig, steps: int, dropout: float) -> _train_many.Chunk:
    """Adam everywhere and the whole training set, so that a loop can be compared."""
    hyper = _hyper.draw_hyper(config, 0) | {
        "optimizer": np.array(["adam"] * config.count),
        "learning_rate": np.full(config.count, RATE),
        "weight_decay": np.zeros(config.count),
        "dropout": np.full(config.count, dropout),
        "step": np.full(config.count, steps),
    }
    return jax.tree.map(
        jnp.asarray,
        _train_many.Chunk(
            np.arange(config.count, dtype=np.int32),
            np.int32(steps),
            _hyper.minibatches(config, 0, 0, POINTS),
            np.ones((config.count, POINTS), np.float32),
            _hyper.coefficients(hyper),
        ),
    )


def _products(jaxpr: Any) -> Iterator[Any]:
    """Every matrix product of a jaxpr, those of inner functions included."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            yield eqn
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _products(inner)


def _step_products(net: nets.Network, chunk: Any, data: zoo.Data) -> list[Any]:
    thetas = jax.eval_shape(lambda: _train_many._initial(net, jax.random.key(0), chunk))
    at = chunk.order[0]
    args = (data.train_x[at], data.train_y[at], chunk.subset[:, at])
    rate = chunk.coefficients["dropout"]

    def loss(thetas: Any) -> Any:
        return _train_many._loss(net, thetas, *args, rate, None)

    return _step_products_of(loss, thetas)


def _step_products_of(loss: Callable[[Any], Any], thetas: Any) -> list[Any]:
    """Every matrix product of a gradient."""
    return list(_products(jax.make_jaxpr(jax.grad(loss))(thetas).jaxpr))


def _flops(eqn: Any) -> int:
    (contracted, _), _ = eqn.params["dimension_numbers"]
    left, out = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
    return 2 * math.prod(out) * math.prod(left[axis] for axis in contracted)


def _bare(eqns: list[Any]) -> harness.Subject:
    rng = np.random.default_rng(0)
    operands = [
        [jnp.asarray(rng.normal(size=v.aval.shape), "float32") for v in eqn.invars]
        for eqn in eqns
    ]
    numbers = [eqn.params["dimension_numbers"] for eqn in eqns]

    def products(operands: Any) -> Any:
        return [
            lax.dot_general(a, b, d)
            for (a, b), d in zip(operands, numbers, strict=True)
        ]

    def check(out: Any) -> None:
        assert all(bool(jnp.isfinite(x).all()) for x in out), "not finite"

    return harness.compile_jitted(
        "bare_products",
        products,
        operands,
        check=check,
        facts={
            "step_flops": sum(map(_flops, eqns)),
            "shapes": [[list(v.aval.shape) for v in eqn.invars] for eqn in eqns],
        },
    )


def _at_once(
    name: str, program: Any, chunk: Any, data: zoo.Data, check: Callable[[Any], None]
) -> harness.Subject:
    key = jax.random.key(0)
    return harness.compile_jitted(name, program, key, chunk, data, check=check)


def _native(net: nets.Network) -> Callable[[Any, Any], Any]:
    """The CNN of the benchmark with the convolution of the compiler."""

    def apply(theta: Any, x: Any) -> Any:
        *convs, head = net.layers
        for layer, strides in zip(convs, net.config.strides, strict=True):  # type: ignore
            weights = theta[layer.name]
            x = lax.conv_general_dilated(
                x,
                weights["kernel"],
                strides,
                "VALID",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            x = jax.nn.relu(x + weights["bias"])
        weights = theta[head.name]
        return x.mean((1, 2)) @ weights["kernel"] + weights["bias"]

    return apply


class Loop:
    """One network, a Python loop over a jitted step."""

    def __init__(self, apply: Any, start: Any, order: Any, data: zoo.Data) -> None:
        optimizer = optax.adam(RATE)
        self.start, self.order = start, order

        def loss(theta: Any, x: Any, y: Any) -> Any:
            logits = apply(theta, x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        def step(theta: Any, state: Any, at: Any) -> Any:
            grads = jax.grad(loss)(theta, data.train_x[at], data.train_y[at])
            updates, state = optimizer.update(grads, state, theta)
            return optax.apply_updates(theta, updates), state

        self.init, self.step = optimizer.init, jax.jit(step, donate_argnums=(0, 1))

    def run(self, steps: int) -> Any:
        """Returns the weights after `steps` steps."""
        theta = jax.tree.map(jnp.copy, self.start)
        state = self.init(theta)
        for t in range(steps):
            theta, state = self.step(theta, state, self.order[t])
        return jax.block_until_ready(theta)


def _gap(a: Any, b: Any) -> float:
    gaps = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), a, b)
    return max(jax.tree.leaves(gaps))


def measure(kind: str, chunk_size: int, batch: int, steps: int) -> harness.Record:
    """Times one architecture; see the module."""
    net = nets.build(NETWORKS[kind])
    config = zoo.ZooConfig(
        {kind: net.config},
        count=chunk_size,
        chunk=chunk_size,
        batch=batch,
        steps=(steps, steps),
    )
    data = _data()
    plain = _train_many.make_program(net, with_dropout=False)
    dropped = _train_many.make_program(net, with_dropout=True)
    key, chunk = jax.random.key(0), _chunk(config, steps, 0.0)
    start, few = (
        jax.tree.map(lambda x: x[0], plain(key, _chunk(config, s, 0.0), data)[0])
        for s in (0, CHECK_STEPS)
    )

    def finite(out: Any) -> None:
        assert bool(jnp.isfinite(out[1]["test_loss"]).all()), "a network diverged"

    def loop(name: str, apply: Any) -> harness.Subject:
        one = Loop(apply, start, chunk.order, data)

        def check() -> dict[str, float]:
            gap = _gap(one.run(CHECK_STEPS), few)
            assert gap < 1e-3, f"other weights than at once: gap {gap}"
            return {"gap_after_10_steps": gap}

        return harness.Subject(name=name, call=lambda: one.run(steps), check=check)

    subjects = [
        _at_once("at_once", plain, chunk, data, finite),
        _at_once("at_once_dropout", dropped, _chunk(config, steps, 0.2), data, finite),
        _bare(_step_products(net, chunk, data)),
        loop("loop", net.apply),
    ]
    if kind == "cnn":
        subjects.append(loop("loop_convolution", _native(net)))
    times = harness.time_subjects(subjects, seconds=0.2)
    return _summary(times, net, chunk_size, batch, steps)


def _summary(
    times: harness.Record, net: nets.Network, chunk_size: int, batch: int, steps: int
) -> harness.Record:
    def seconds(name: str) -> float:
        return times[name]["median_seconds"]

    flops = times["bare_products"]["step_flops"]
    bare = flops / seconds("bare_products")
    loops = [seconds(name) for name in times if name.startswith("loop")]
    out: harness.Record = {
        "network": net.config.to_dict(),
        "parameters": net.spec.num_parameters,
        "networks_at_once": chunk_size,
        "batch": batch,
        "steps": steps,
        "bare_flops_per_second": bare,
        "loop_networks_per_second": 1 / min(loops),
    }
    for name in ("at_once", "at_once_dropout"):
        rate = flops * steps / seconds(name)
        out[name] = {
            "networks_per_second": chunk_size / seconds(name),
            "flops_per_second": rate,
            "rate_ratio": rate / bare,
            "loop_ratio": chunk_size * min(loops) / seconds(name),
        }
    return out | {"times": times}


def main() -> None:
    """Times both architectures and writes the JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--chunk", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    record: harness.Record = {"stamp": harness.stamp()}
    for kind in NETWORKS:
        record[kind] = one = measure(kind, args.chunk, args.batch, args.steps)
        for name in ("at_once", "at_once_dropout"):
            print(kind, name, {k: f"{v:.3g}" for k, v in one[name].items()})
    platform = jax.default_backend()
    harness.save("generate" if platform == "cpu" else f"generate_{platform}", record)


if __name__ == "__main__":
    main()
