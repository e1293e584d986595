"""How fast are many sine networks fitted, against a loop of single fits and the floor?

SIRENs 2-32-32-1 to 28x28 images, a chunk of `zoo.fit`, all for as many steps:

- `at_once`: the compiled program of the library, starts and measured PSNR included;
- `loop_fit`: one network at a time, a jitted fit (`fori_loop`, optax Adam, `jnp.sin`);
- `loop_steps`: one network at a time, a Python loop over a jitted step;
- `products`: steps of `together` linear networks of the same widths, without biases:
  the matrix products of a training step and next to nothing else;
- `sines`: sine and cosine of as many units, by the function of the networks, eight of
  them summed before anything is written; `sines_xla`: by `jnp.sin` and `jnp.cos`.

The last three are loops of as many steps as a fit has, in one compiled call each. What
a step needs comes from the one before, so that no step is left out, and nothing is
written that a fit would not write. The floor of a step is the time of `products` and
`sines`; `floor_share` is the floor of all steps over the time of `at_once`,
`loop_ratio` is fits per second over those of the faster loop. Run on a quiet machine:

    python -m benchmarks.bench_fit
"""

import argparse
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from benchmarks import harness
from benchmarks.bench_generate import _flops, _step_products_of
from qejax import nets, zoo
from qejax.nets._sine import cosine, sine
from qejax.zoo import _fit_many

CHECK_STEPS = 20

SUMMED = 8
"""Sines in a sum of the floor."""


def _config(steps: int, count: int, together: int) -> zoo.FitConfig:
    """No fit stops early."""
    return zoo.FitConfig(
        (28, 28), max_steps=steps, psnr=200.0, chunk=count, together=together
    )


def _images(count: int) -> Any:
    """Smooth blobs in [0, 1]."""
    rng = np.random.default_rng(0)
    grid = np.asarray(nets.grid(28, 28))
    centres = rng.uniform(-0.7, 0.7, (count, 3, 1, 2))
    square = ((grid - centres) ** 2).sum(-1)
    return jnp.asarray(np.exp(-8 * square).max(1)[..., None], jnp.float32)


class Loop:
    """One network at a time, as a user would write it."""

    def __init__(self, config: zoo.FitConfig) -> None:
        optimizer = optax.adam(config.learning_rate)
        grid = nets.grid(*config.shape)

        def apply(theta: Any, x: Any) -> Any:
            for layer in ("layer_00", "layer_01"):
                weights = theta[layer]
                x = jnp.sin(30 * (x @ weights["kernel"] + weights["bias"]))
            return x @ theta["layer_02"]["kernel"] + theta["layer_02"]["bias"]

        def loss(theta: Any, y: Any) -> Any:
            return jnp.mean((apply(theta, grid) - y) ** 2)

        def step(theta: Any, state: Any, y: Any) -> Any:
            grads = jax.grad(lambda theta: jnp.mean((apply(theta, grid) - y) ** 2))(
                theta
            )
            updates, state = optimizer.update(grads, state, theta)
            return optax.apply_updates(theta, updates), state

        def fit(theta: Any, y: Any, steps: Any) -> Any:
            start = (theta, optimizer.init(theta))
            return lax.fori_loop(0, steps, lambda t, s: step(s[0], s[1], y), start)[0]

        self.optimizer: Any = optimizer
        self.fit: Any = jax.jit(fit)
        self.step: Any = jax.jit(step, donate_argnums=(0, 1))

    def by_steps(self, theta: Any, y: Any, steps: int) -> Any:
        """Returns the weights after `steps` steps, each dispatched by itself."""
        theta = jax.tree.map(jnp.copy, theta)
        state = self.optimizer.init(theta)
        for _ in range(steps):
            theta, state = self.step(theta, state, y)
        return jax.block_until_ready(theta)


def _gap(a: Any, b: Any) -> float:
    gaps = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), a, b)
    return max(jax.tree.leaves(gaps))


def _products(net: nets.Network, together: int, steps: int) -> harness.Subject:
    """Gradients of linear networks: the products of those of sine networks."""
    grid = nets.grid(28, 28)
    template = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((together, *x.shape), x.dtype),
        net.spec.template(),
    )
    rng = np.random.default_rng(0)
    kernels = [
        jnp.asarray(rng.normal(size=shape) / shape[1] ** 0.5, "float32")
        for shape in (layer["kernel"].shape for layer in template.values())
    ]

    def sine_loss(thetas: Any) -> Any:
        return jnp.sum(jax.vmap(net.apply, (0, None))(thetas, grid) ** 2)

    def loss(kernels: Any) -> Any:
        values = jax.vmap(lambda one: functools.reduce(jnp.matmul, one, grid))(kernels)
        return jnp.sum(values**2)

    def run(kernels: Any) -> Any:
        def step(_: Any, kernels: Any) -> Any:
            return jax.tree.map(lambda x, g: x - 1e-6 * g, kernels, slope(kernels))

        slope = jax.grad(loss)
        return lax.fori_loop(0, steps, step, kernels)

    wanted, found = (
        _step_products_of(sine_loss, template),
        _step_products_of(loss, kernels),
    )
    if sorted(map(_flops, wanted)) != sorted(map(_flops, found)):
        raise AssertionError("linear networks should have the products of sine ones.")

    def check(out: Any) -> None:
        assert all(bool(jnp.isfinite(x).all()) for x in out), "not finite"
        moved = [bool((x != y).any()) for x, y in zip(out, kernels, strict=True)]
        assert all(moved), "no step was taken"

    facts = {
        "step_flops": sum(map(_flops, found)),
        "shapes": [[list(v.aval.shape) for v in eqn.invars] for eqn in found],
    }
    return harness.compile_jitted("products", run, kernels, check=check, facts=facts)


def _sines(
    name: str,
    together: int,
    steps: int,
    sine: Callable[[Any], Any],
    cosine: Callable[[Any], Any],
) -> harness.Subject:
    """Of all hidden units of a step, summed over some: few values are written.

    The sum is inside of an element, because the compiler takes no vectors of sines in
    a reduction.
    """
    shape = (together, 784, 64 // SUMMED)
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), "float32")
    shifts = np.linspace(-4, 4, SUMMED, dtype="float32")

    def run(x: Any) -> Any:
        def step(_: Any, x: Any) -> Any:
            return 0.01 * sum(sine(x + shift) + cosine(x + shift) for shift in shifts)

        return lax.fori_loop(0, steps, step, x)

    def check(out: Any) -> None:
        wanted = np.asarray(x, np.float64)
        for _ in range(steps):
            moved = wanted[..., None] + shifts
            wanted = 0.01 * (np.sin(moved) + np.cos(moved)).sum(-1)
        gap = np.abs(np.asarray(out) - wanted).max()
        assert gap < 1e-5, f"other sums of sines: gap {gap}"

    return harness.compile_jitted(name, run, x, check=check)


def measure(count: int, together: int, steps: int) -> harness.Record:
    """Times one chunk; see the module."""
    config = _config(steps, count, together)
    net, key = nets.build(config.network()), jax.random.key(0)
    rows, images = jnp.arange(count, dtype=jnp.int32), _images(count)

    def after(steps: int) -> Any:
        program = _fit_many.fit_program(_config(steps, count, together))
        return jax.tree.map(lambda x: x[0], program(key, rows, images).thetas)

    start, few = after(0), after(CHECK_STEPS)
    loop, target = Loop(config), 2 * images[0] - 1

    def same(theta: Any) -> dict[str, float]:
        gap = _gap(theta, few)
        assert gap < 1e-3, f"other weights than at once: gap {gap}"
        return {"gap_after_20_steps": gap}

    def finite(out: Any) -> None:
        assert bool(jnp.isfinite(out.psnr).all()), "a fit diverged"

    subjects = [
        harness.compile_jitted(
            "at_once", _fit_many.fit_program(config), key, rows, images, check=finite
        ),
        harness.Subject(
            name="loop_fit",
            call=lambda: jax.block_until_ready(loop.fit(start, target, steps)),
            check=lambda: same(loop.fit(start, target, CHECK_STEPS)),
        ),
        harness.Subject(
            name="loop_steps",
            call=lambda: loop.by_steps(start, target, steps),
            check=lambda: same(loop.by_steps(start, target, CHECK_STEPS)),
        ),
        _products(net, together, steps),
        _sines("sines", together, steps, sine, cosine),
        _sines("sines_xla", together, steps, jnp.sin, jnp.cos),
    ]
    times = harness.time_subjects(subjects, seconds=0.2)

    def seconds(name: str) -> float:
        return times[name]["median_seconds"]

    # Of all steps of the fits of one loop.
    floor = seconds("products") + seconds("sines")
    return {
        "fits": count,
        "together": together,
        "steps": steps,
        "fits_per_second": count / seconds("at_once"),
        "microseconds_per_step": 1e6 * seconds("at_once") / (count * steps),
        "floor_microseconds_per_step": 1e6 * floor / (together * steps),
        "sines_speedup": seconds("sines_xla") / seconds("sines"),
        "floor_share": floor * count / together / seconds("at_once"),
        "loop_ratio": count
        * min(seconds("loop_fit"), seconds("loop_steps"))
        / seconds("at_once"),
        "times": times,
    }


def main() -> None:
    """Times the fits and writes the JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--fits", type=int, default=32)
    parser.add_argument("--together", type=int, default=4)
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    found = measure(args.fits, args.together, args.steps)
    print({k: f"{v:.3g}" for k, v in found.items() if isinstance(v, float)})
    platform = jax.default_backend()
    name = "fit" if platform == "cpu" else f"fit_{platform}"
    harness.save(name, {"stamp": harness.stamp(), **found})


if __name__ == "__main__":
    main()
