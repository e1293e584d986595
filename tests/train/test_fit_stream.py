"""Training on a stream: the numbers of memory, and a place that is never lost."""

from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qejax import nets, zoo
from qejax.train import FitConfig, FitResult, Progress, fit_stream
from tests.zoo.random_zoo import random_zoo

NET = nets.mlp((3, 4, 2))
STEPS = 40
CONFIG = FitConfig(
    steps=STEPS, batch_size=6, eval_every=10, select="loss", mode="min", ema=0.9
)
PARAMS = {"w": jnp.zeros(NET.spec.num_parameters), "b": jnp.zeros(())}


class Crash(Exception):
    """Stands for whatever ends a process without saving."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("stream") / "zoo"
    return zoo.store(place, {"a": random_zoo(NET, 50)})


def take(batch: zoo.Batch) -> dict[str, Any]:
    x = zoo.to_vectors(NET.spec, batch.thetas)
    return {"x": x, "y": batch.labels["test_accuracy"]}


def opened(root: Path, **options: Any) -> zoo.Stream[Any]:
    given: dict[str, Any] = {"seed": 5, "epochs": None, "take": take} | options
    return zoo.stream(root, "train", CONFIG.batch_size, **given)


def loss(params: Any, batch: Any, key: Any) -> Any:
    noise = 0.01 * jax.random.normal(key, batch["y"].shape)
    error = batch["x"] @ params["w"] + params["b"] - batch["y"] + noise
    return jnp.mean(error**2), {}


def run(root: Path, out: Path | None = None, **options: Any) -> FitResult:
    whole = zoo.read(root).select("val")
    held = {"x": whole.vectors(), "y": whole.labels["test_accuracy"]}

    @jax.jit
    def measured(params: Any) -> Any:
        return loss(params, held, jax.random.key(0))[0]

    stream = options.pop("stream", None) or opened(root)
    return fit_stream(
        loss,
        PARAMS,
        stream,
        CONFIG,
        optimizer=optax.adam(1e-2),
        evaluate=lambda params: {"loss": float(measured(params))},
        out=out,
        save_seconds=0.0,
        **options,
    )


def assert_same(one: FitResult, other: FitResult) -> None:
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)
    jax.tree.map(np.testing.assert_array_equal, one.last_params, other.last_params)
    rows = [[row | {"seconds": 0} for row in x.history] for x in (one, other)]
    assert rows[0] == rows[1]


def test_a_stream_trains_as_a_loop_over_memory_does(root: Path) -> None:
    got = run(root)
    optimizer = optax.adam(1e-2)
    params: Any = PARAMS
    state = optimizer.init(params)
    batches = zoo.batches(zoo.read(root), "train", 6, seed=5, epochs=9)
    base = jax.random.fold_in(jax.random.key(CONFIG.seed), 1)
    for step, batch in zip(range(STEPS), batches, strict=False):
        key = jax.random.fold_in(base, step)
        grads = jax.grad(lambda p, b, k: loss(p, b, k)[0])(params, take(batch), key)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    # An average: close to what it is an average of, and not it.
    gap = float(jnp.abs(got.last_params["w"] - params["w"]).max())
    assert 0 < gap < 0.1
    assert got.history[-1]["train"]["loss"] < got.history[1]["train"]["loss"]
    on_device = run(root, stream=opened(root, device=jax.devices()[0]))
    assert_same(got, on_device)


@pytest.mark.parametrize("stop", [1, 10, 23])
@pytest.mark.one_in(3)
def test_a_run_that_dies_goes_on_with_its_next_batch(
    root: Path, tmp_path: Path, stop: int
) -> None:
    want = run(root)

    def crash(report: Progress) -> None:
        if report.step >= stop:
            raise Crash

    with pytest.raises(Crash):
        run(root, tmp_path / "run", progress=crash)
    got = run(root, tmp_path / "run")
    if stop > 1:
        assert got.resumed_from
    assert_same(got, want)
    # Finished: it returns at once.
    assert run(root, tmp_path / "run").resumed_from == STEPS


def test_a_run_never_goes_on_in_another_stream(root: Path, tmp_path: Path) -> None:
    run(root, tmp_path / "run")
    with pytest.raises(ValueError, match="expected a place in the batches"):
        run(root, tmp_path / "run", stream=opened(root, seed=6))
    with pytest.raises(ValueError, match=r"data\.batch"):
        run(
            root,
            tmp_path / "run",
            stream=opened(root, take=lambda b: take(b) | {"z": np.zeros(len(b.ids))}),
        )


def test_any_grain_iterator_is_a_stream(root: Path) -> None:
    x = np.random.default_rng(0).normal(size=(30, NET.spec.num_parameters))
    data = [{"x": row.astype("f4"), "y": np.float32(row.sum())} for row in x]
    dataset = grain.MapDataset.source(data).seed(0).shuffle().repeat(None).batch(6)
    got = run(root, stream=iter(dataset.to_iter_dataset()))
    assert got.step == STEPS


def test_batches_of_a_few_shapes_train_as_those_of_one(
    root: Path, tmp_path: Path
) -> None:
    """What is behind the weights of a batch is not looked at."""
    widths = set()

    def ragged(batch: zoo.Batch) -> dict[str, Any]:
        found = take(batch)
        behind = 2 * int(found["y"][0] > np.median(found["y"]))
        widths.add(behind)
        return found | {"x": np.pad(found["x"], ((0, 0), (0, behind)))}

    def cut(params: Any, batch: Any, key: Any) -> Any:
        x = batch["x"][:, : NET.spec.num_parameters]
        return loss(params, batch | {"x": x}, key)

    def trained(take: Any, out: Path | None = None, crash: Any = None) -> FitResult:
        return fit_stream(
            cut,
            PARAMS,
            opened(root, take=take),
            FitConfig(steps=STEPS, batch_size=6, eval_every=10),
            optimizer=optax.adam(1e-2),
            out=out,
            save_seconds=0.0,
            progress=crash,
        )

    def crash(report: Progress) -> None:
        if report.step >= STEPS // 2:
            raise Crash

    want = trained(take)
    assert_same(trained(ragged), want)
    assert widths == {0, 2}
    with pytest.raises(Crash):
        trained(ragged, tmp_path / "run", crash)
    again = trained(ragged, tmp_path / "run")
    assert again.resumed_from
    assert_same(again, want)


def test_streams_that_do_not_fit(root: Path) -> None:
    with pytest.raises(ValueError, match=f"expected {STEPS} batches, got 5"):
        run(root, stream=opened(root, epochs=1))
    with pytest.raises(ValueError, match="examples in 1 pieces, got a piece of 3"):
        run(root, stream=opened(root, shard=(0, 2)))
    with pytest.raises(ValueError, match=r"fit_stream\(evaluate=None\): expected a"):
        fit_stream(loss, PARAMS, opened(root), CONFIG, optimizer=optax.sgd(0.1))


def test_a_loss_that_is_not_finite_is_named_with_its_step(root: Path) -> None:
    def spoilt(params: Any, batch: Any, key: Any) -> Any:
        value, aux = loss(params, batch, key)
        return jnp.where(params["b"] != 0, jnp.nan, value), aux

    with pytest.raises(FloatingPointError, match="got nan or infinity in step 2 of"):
        fit_stream(
            spoilt,
            PARAMS,
            opened(root),
            FitConfig(steps=STEPS, batch_size=6, eval_every=10),
            optimizer=optax.sgd(0.1),
        )
