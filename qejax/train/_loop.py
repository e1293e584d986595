"""The training loop: resumable to the bit, one compilation, no sync a step.

Files of a run in its directory:

- `fit.json`: what decides the numbers; a directory belongs to one run.
- `log.jsonl`: a row an evaluation, `{"step", "train": {"loss", ...}, "eval": {...},
  "seconds"}`: means of loss and aux over the steps since the row before (null at step
  0), the metrics (null if not finite), and the seconds of the run so far.
- `ckpt/STEP`: the last two states, each with the best parameters so far.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from qejax._devices import replicated, spread
from qejax.train._checkpoint import Checkpointer
from qejax.train._config import FitConfig, claim
from qejax.train._fingerprint import fingerprint
from qejax.train._mesh import state_shardings
from qejax.train._progress import Progress
from qejax.train._run import FitResult, Run
from qejax.train._selection import Evaluate, check_select
from qejax.train._signals import StopRequest, catch_signals
from qejax.train._step import (
    Advance,
    Batch,
    LossFn,
    Params,
    check_loss,
    init_state,
    make_advance,
    num_examples,
)

_DISPATCH_SECONDS = 1.0  # how long the host waits at most before it looks up


def fit(
    loss_fn: LossFn,
    params: Params,
    data: Batch,
    config: FitConfig,
    *,
    optimizer: optax.GradientTransformation,
    evaluate: Evaluate | None = None,
    out: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: Callable[[Progress], None] | None = None,
    save_seconds: float = 60.0,
    mesh: Mesh | None = None,
) -> FitResult:
    """Trains `params` on in-RAM examples and returns the best ones.

    With `out`, a run that was stopped at any moment goes on when `fit` is called again
    with the same arguments, to bitwise the same numbers as one that never stopped (on
    the same device, if its operations are deterministic); a finished run returns at
    once. SIGINT and SIGTERM save first and then raise `Interrupted`; a second one
    aborts. The training step is compiled once a process, whatever the number of steps.

    Args:
        loss_fn: `(params, batch, key) -> (loss, aux)`; pure. `batch` has the structure
            of `data` with a leading axis of `batch_size`; `key` is new in every step;
            `aux` holds scalars by name.
        params: a pytree of floating-point arrays; copied, never donated.
        data: a pytree of arrays whose common leading axis is the examples; moved to
            the device once.
        config: see `FitConfig`.
        optimizer: an optax transformation; schedules inside it count steps.
        evaluate: `params -> {metric: number}`, on validation data that it closes over;
            jitted by the caller; must not keep `params`. See `FitConfig.eval_every`.
        out: a directory for this run alone, or None to keep nothing.
        settings: what else decides the numbers (optimiser, model, data options) as
            JSON values; compared on resume, as `data` are, those up to rounding.
        progress: called after every evaluation and dispatch (about every second).
        save_seconds: least seconds between two saves; has no effect on the numbers.
        mesh: see `make_mesh`: batches are cut over `data`, the state over `model`. The
            numbers are those of one device up to rounding; any mesh goes on. Of many
            processes all call this alike, `out` on storage that they share.

    Raises:
        ValueError: if `data`, `evaluate`, `config` and `mesh` do not fit together, or
            `out` belongs to a run with other settings or data (names the fields).
        TypeError: if `loss_fn` does not return a scalar and a dict of scalars.
        FloatingPointError: at the first training loss that is not finite, or if the
            selected metric never was.
        CheckpointError: if all checkpoints are damaged; one that is intact is gone on
            with, with a `CheckpointWarning`.
        Interrupted: after a signal to any process, with the state saved.
        PeerError: if another process of this program has ended.

    Example:
        >>> import jax.numpy as jnp
        >>> def loss_fn(params, batch, key):
        ...     return jnp.mean((batch["x"] * params["a"] - batch["y"]) ** 2), {}
        >>> x = np.linspace(-1.0, 1.0, 64, dtype=np.float32)
        >>> config = FitConfig(steps=200, batch_size=16, eval_every=50)
        >>> result = fit(loss_fn, {"a": jnp.zeros(())}, {"x": x, "y": 3 * x}, config,
        ...              optimizer=optax.sgd(0.5))
        >>> round(float(result.params["a"]), 3)
        3.0
    """
    check_select("fit", config, evaluate)
    shapes = check_loss(loss_fn, params, data, config.batch_size)
    state = init_state(params, optimizer, config, shapes)
    if out is not None:
        claim(out, config, fingerprint(data), settings)
    with ExitStack() as stack:
        store = stop = None
        if out is not None:
            store = stack.enter_context(Checkpointer(out / "ckpt"))
            stop = stack.enter_context(catch_signals())
        run = Run(config, evaluate, state, store, out, progress, save_seconds, mesh)
        if run.ended is None:
            advance = make_advance(loss_fn, optimizer, config, num_examples(data), mesh)
            _train_in_memory(run, advance, data, stop, mesh)
        run.obey(stop)
        return run.result()


def _train_in_memory(
    run: Run,
    advance: Advance,
    data: Batch,
    stop: StopRequest | None,
    mesh: Mesh | None,
) -> None:
    """Compiles the training program and runs it to the end of the run."""
    data = jax.device_put(data) if mesh is None else spread(data, replicated(mesh))
    begin = time.perf_counter()
    # Where the state lies is where the next call expects it.
    out = None if mesh is None else state_shardings(mesh, run.state)
    jitted = jax.jit(advance, donate_argnums=0, out_shardings=out)
    program = jitted.lower(run.state, data, np.int32(0)).compile()
    run.compile_seconds = time.perf_counter() - begin
    train(run, program, data, stop)


def train(run: Run, program: Advance, data: Any, stop: StopRequest | None) -> None:
    """Advances, evaluates and saves to the end of the run, or until it is stopped.

    Args:
        run: what changes meanwhile.
        program: from a state and `data` to a later step.
        data: what the program takes.
        stop: whether a signal has come.

    Raises:
        Interrupted: after a signal, with the state saved.
    """
    config = run.config
    if run.resumed_from is None:
        run.evaluate()
    while not run.ended:
        next_evaluation = (run.step // config.eval_every + 1) * config.eval_every
        until = min(
            run.step + run.clock.dispatch_steps(_DISPATCH_SECONDS),
            next_evaluation,
            config.steps,
        )
        until, due, stopped = run.agreed(until, stop)
        if stopped:
            run.leave(stop)
        if due:
            run.save()
        run.dispatch(program, data, until)
        if until in (next_evaluation, config.steps):
            run.evaluate()
    run.save_and_wait()
