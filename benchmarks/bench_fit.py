"""How fast are many sine networks fitted, against a loop of single fits and the floor?

SIRENs 2-32-32-1 to 28x28 images, a chunk of `zoo.fit`, all for as many steps:

- `at_once`: the compiled program of the library, starts and measured PSNR included;
- `loop_fit`: one network at a time, a jitted fit (`fori_loop`, optax Adam, `jnp.sin`);
- `loop_steps`: one network at a time, a Python loop over a jitted step;
- `bare_products`: every matrix product of one training step of `together` networks,
  found in its jaxpr, alone in one compiled function; `sines`: sine and cosine of as
  many units, by the function of the networks; `sines_xla`: by `jnp.sin` and `jnp.cos`.

The floor of a step is the time of `bare_products` and `sines`; `floor_share` is the
floor of all steps over the time of `at_once`, `loop_ratio` is fits per second over
those of the faster loop. The pieces of the floor are calls of their own and write their
results, so that a share may be above 1. Run on a quiet machine:

    python -m benchmarks.bench_fit
"""

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from benchmarks import harness
from benchmarks.bench_generate import _bare, _step_products_of
from qejax import nets, zoo
from qejax.nets._sine import cosine, sine
from qejax.zoo import _fit_many

CHECK_STEPS = 20


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


def _products(net: nets.Network, together: int) -> harness.Subject:
    """Those of one step of the networks of one loop."""
    grid = nets.grid(28, 28)

    def loss(thetas: Any) -> Any:
        values = jax.vmap(net.apply, (0, None))(thetas, grid)
        return jnp.sum(values**2)

    template = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((together, *x.shape), x.dtype),
        net.spec.template(),
    )
    return _bare(_step_products_of(loss, template))


def _sines(
    name: str, together: int, sine: Callable[[Any], Any], cosine: Callable[[Any], Any]
) -> harness.Subject:
    x = jnp.asarray(
        np.random.default_rng(0).normal(size=(together, 784, 64)), "float32"
    )

    def check(out: Any) -> None:
        assert all(bool(jnp.isfinite(part).all()) for part in out), "not finite"

    def both(x: Any) -> Any:
        return sine(x), cosine(x)

    return harness.compile_jitted(name, both, x, check=check)


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
        _products(net, together),
        _sines("sines", together, sine, cosine),
        _sines("sines_xla", together, jnp.sin, jnp.cos),
    ]
    times = harness.time_subjects(subjects, seconds=0.2)

    def seconds(name: str) -> float:
        return times[name]["median_seconds"]

    floor = seconds("bare_products") + seconds("sines")
    return {
        "fits": count,
        "together": together,
        "steps": steps,
        "fits_per_second": count / seconds("at_once"),
        "microseconds_per_step": 1e6 * seconds("at_once") / (count * steps),
        "floor_microseconds_per_step": 1e6 * floor / together,
        "sines_speedup": seconds("sines_xla") / seconds("sines"),
        "floor_share": floor * steps * count / together / seconds("at_once"),
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
