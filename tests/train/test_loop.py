"""`fit` as a user meets it: results, selection, one compilation, errors."""

import json
import logging
import signal
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qejax.train import FitConfig, FitResult, Interrupted, Progress, fit

X = np.linspace(-1.0, 1.0, 32)
DATA = {"x": X, "y": 3.0 * X}


def loss_fn(params: Any, batch: Any, key: Any) -> Any:
    del key
    error = params["a"] * batch["x"] - batch["y"]
    return jnp.mean(error**2), {"abs": jnp.mean(jnp.abs(error))}


def gap(params: Any) -> dict[str, Any]:
    return {"gap": jnp.abs(params["a"] - 3.0)}


def run(loss: Any = loss_fn, data: Any = DATA, **options: Any) -> FitResult:
    names = ("steps", "batch_size", "eval_every", "select", "mode", "patience", "ema")
    fields: dict[str, Any] = {"steps": 40, "batch_size": 8, "eval_every": 10, "seed": 0}
    fields |= {name: options.pop(name) for name in names if name in options}
    options = {"optimizer": optax.sgd(0.1), "evaluate": gap, **options}
    params = options.pop("params", {"a": jnp.zeros(())})
    return fit(loss, params, data, FitConfig(**fields), **options)


def logged(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_it_learns_and_logs() -> None:
    result = run(steps=45, select="gap", mode="min")
    assert [row["step"] for row in result.history] == [0, 10, 20, 30, 40, 45]
    first, *rest = result.history
    assert first["train"] is None
    assert first["eval"] == {"gap": 3.0}
    assert all(set(row["train"]) == {"loss", "abs"} for row in rest)
    assert rest[-1]["train"]["loss"] < 0.1 * rest[0]["train"]["loss"]
    assert result.best_step == result.step == 45
    assert result.best_metrics == rest[-1]["eval"]
    assert (result.ended, result.resumed_from) == ("steps", None)
    assert result.compile_seconds > 0
    assert result.step_seconds is not None
    np.testing.assert_array_equal(result.params["a"], result.last_params["a"])


def test_without_evaluate_the_last_parameters_come_back() -> None:
    result = run(evaluate=None)
    assert result.best_metrics == {}
    assert result.best_step == 40
    assert float(result.params["a"]) == float(result.last_params["a"])


def test_the_best_evaluation_is_returned_and_kept_from_donation() -> None:
    values = iter([1.0, 3.0, float("nan"), 3.0, 2.0])
    seen = []

    def evaluate(params: Any) -> dict[str, float]:
        seen.append(float(params["a"]))
        return {"score": next(values)}

    result = run(evaluate=evaluate, select="score")
    assert result.best_step == 10
    assert result.best_metrics == {"score": 3.0}
    assert float(result.params["a"]) == seen[1]
    assert float(result.last_params["a"]) == seen[4]
    assert [row["eval"]["score"] for row in result.history] == [
        1.0,
        3.0,
        None,
        3.0,
        2.0,
    ]


def test_patience_counts_evaluations() -> None:
    values = iter([5.0, 4.0, 6.0, 4.0, 4.0])
    result = run(
        evaluate=lambda p: {"score": next(values)},
        select="score",
        mode="min",
        patience=2,
        steps=100,
    )
    assert (result.ended, result.step, result.best_step) == ("patience", 30, 10)


def test_patience_is_remembered_over_an_interruption(tmp_path: Path) -> None:
    values = iter([5.0, 4.0, 6.0, 4.0, 4.0])

    def evaluate(params: Any) -> dict[str, float]:
        del params
        value = next(values)
        if value == 6.0:
            signal.raise_signal(signal.SIGTERM)
        return {"score": value}

    options = {"select": "score", "mode": "min", "patience": 2, "steps": 100}
    with pytest.raises(Interrupted, match="SIGTERM after step 20 of 100"):
        run(out=tmp_path, evaluate=evaluate, **options)
    result = run(out=tmp_path, evaluate=evaluate, **options)
    assert (result.ended, result.step, result.best_step) == ("patience", 30, 10)
    assert result.best_metrics == {"score": 4.0}


def test_the_average_is_what_is_evaluated() -> None:
    seen = []

    def evaluate(params: Any) -> dict[str, float]:
        seen.append(float(params["a"]))
        return {}

    plain, mean = run(), run(ema=0.9, evaluate=evaluate)
    assert seen[-1] == float(mean.last_params["a"])
    # It lags behind the plain parameters, which rise towards 3.
    assert 0.0 < seen[-1] < float(plain.last_params["a"]) < 3.0


def test_the_callers_arrays_survive_donation() -> None:
    params = {"a": jnp.zeros(())}
    data = jax.tree.map(jnp.asarray, DATA)
    first = run(params=params, data=data, ema=0.5)
    second = run(params=params, data=data, ema=0.5)
    assert float(params["a"]) == 0.0
    assert float(first.params["a"]) == float(second.params["a"])


@pytest.mark.parametrize("steps", [7, 45])
def test_one_compilation_however_many_steps(
    steps: int, caplog: pytest.LogCaptureFixture
) -> None:
    traces, reports = [], []

    def counted(params: Any, batch: Any, key: Any) -> Any:
        traces.append(1)
        return loss_fn(params, batch, key)

    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        run(counted, steps=steps, eval_every=4, progress=reports.append)
    text = [record.getMessage() for record in caplog.records]
    compiled = [line for line in text if "XLA compilation of jit(advance)" in line]
    assert len(compiled) == 1
    # One look at its shapes; once more for the program, which JAX may trace twice.
    assert len(traces) <= 3


def test_many_steps_a_dispatch() -> None:
    reports: list[Progress] = []
    run(steps=4000, eval_every=2000, progress=reports.append)
    assert len(reports) < 100
    assert [report.step for report in reports] == sorted(r.step for r in reports)


def test_progress_knows_the_time_left() -> None:
    reports: list[Progress] = []
    result = run(progress=reports.append)
    first, last = reports[0], reports[-1]
    assert (first.step, first.loss, first.seconds_left) == (0, None, None)
    assert first.metrics == {"gap": 3.0}
    assert (last.step, last.steps, last.seconds_left) == (40, 40, 0.0)
    assert last.loss == result.history[-1]["train"]["loss"]
    assert last.metrics == result.history[-1]["eval"]
    middle = [r.seconds_left for r in reports if 0 < r.step < 40]
    assert all(left is not None and left > 0 for left in middle)


def test_a_finished_run_returns_at_once(tmp_path: Path) -> None:
    first = run(out=tmp_path, select="gap", mode="min")

    def never(params: Any) -> Any:
        raise AssertionError("evaluated again")

    again = run(out=tmp_path, select="gap", mode="min", evaluate=never)
    assert again.resumed_from == 40
    assert again.compile_seconds == 0.0
    assert again.history == first.history
    assert again.best_metrics == first.best_metrics
    np.testing.assert_array_equal(again.params["a"], first.params["a"])
    np.testing.assert_array_equal(again.last_params["a"], first.last_params["a"])
    assert logged(tmp_path) == first.history


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"batch_size": 4}, r"another config: loop.batch_size: stored 8, now 4\."),
        (
            {"settings": {"lr": 0.2}},
            r"another config: settings.lr: stored 0.1, now 0.2",
        ),
        ({"data": {"x": X, "y": X}}, r"another config: data.sums.y: stored"),
    ],
)
def test_a_directory_belongs_to_one_run(
    tmp_path: Path, options: Any, match: str
) -> None:
    run(out=tmp_path, steps=1, settings={"lr": 0.1})
    log = (tmp_path / "log.jsonl").read_text()
    with pytest.raises(ValueError, match=match):
        run(**{"out": tmp_path, "steps": 1, "settings": {"lr": 0.1}, **options})
    assert (tmp_path / "log.jsonl").read_text() == log


def test_data_of_other_devices_are_the_same_run(tmp_path: Path) -> None:
    """They differ by rounding, and not by order, sign or a number."""
    first = run(out=tmp_path, steps=1)
    nearly = {name: x * (1 + 1e-8) for name, x in DATA.items()}
    again = run(out=tmp_path, steps=1, data=nearly)
    assert again.history == first.history
    x, y = DATA["x"], DATA["y"]
    changed = np.where(np.arange(len(y)) == 7, 1.01 * y, y)
    for other in (y[::-1], -y, changed, y.astype(np.float32)):
        with pytest.raises(ValueError, match="another config: data"):
            run(out=tmp_path, steps=1, data={"x": x, "y": other})


def test_another_model_does_not_fit_the_checkpoint(tmp_path: Path) -> None:
    run(out=tmp_path, steps=1)
    params = {"a": jnp.zeros((1,))}
    with pytest.raises(ValueError, match=r"'state' of step 1 do not fit .*params/a"):
        run(
            lambda p, b, k: loss_fn({"a": p["a"][0]}, b, k),
            out=tmp_path,
            steps=1,
            params=params,
            evaluate=lambda p: {},
        )


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"select": "gap", "evaluate": None}, "expected a function for select='gap'"),
        ({"select": "tau"}, r"select to name a metric, got 'tau'; .* \['gap'\]"),
        ({"evaluate": lambda p: {"v": np.ones(2)}}, r"'v' to be one number, got .*2,"),
    ],
)
def test_evaluate_and_select_fit_together(options: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        run(**options)


def test_a_diverging_run_stops_with_its_step(tmp_path: Path) -> None:
    with pytest.raises(
        FloatingPointError, match=r"finite training loss, .* in step \d+"
    ):
        run(out=tmp_path, optimizer=optax.sgd(1e30), steps=1000, save_seconds=0.0)
    assert logged(tmp_path)[0]["step"] == 0
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_metric_that_is_never_finite_is_an_error() -> None:
    with pytest.raises(FloatingPointError, match=r"finite metric 'm' .* got none in 5"):
        run(evaluate=lambda p: {"m": np.nan}, select="m")
