"""The training loop over a stream of batches: sets that are larger than memory.

The place in the stream is saved with every checkpoint, so that a run that was stopped
goes on with the batch that it would have had.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from qejax._devices import batch_sharding
from qejax.train._checkpoint import Checkpointer
from qejax.train._config import FitConfig, claim
from qejax.train._loop import train
from qejax.train._mesh import check_batch, state_shardings
from qejax.train._progress import Progress
from qejax.train._run import FitResult, Run
from qejax.train._selection import Evaluate, check_select
from qejax.train._signals import catch_signals
from qejax.train._step import (
    Batch,
    LossFn,
    Params,
    State,
    check_loss,
    init_state,
    make_step,
    num_examples,
)


class Batches(Protocol):
    """An iterator over batches that knows its place: grain's, or `zoo.stream`'s."""

    def __next__(self) -> Batch:
        """Returns the next batch, a pytree of arrays."""
        ...

    def get_state(self) -> Any:
        """Returns the place, of JSON types."""
        ...

    def set_state(self, state: Any) -> None:
        """Goes to a place."""
        ...


def fit_stream(
    loss_fn: LossFn,
    params: Params,
    batches: Batches,
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
    """Trains `params` on batches that are read while it trains; returns the best ones.

    Everything is as in `fit`, but for the data: their order is that of the stream, and
    the place in it is part of every checkpoint.

    Args:
        loss_fn: as in `fit`.
        params: as in `fit`.
        batches: endless, or long enough; all of `config.batch_size` examples, of which
            each of `P` processes on a mesh hands out its own `1 / P`. They may
            be of a few shapes, such as those of `zoo.stream_mixed`: a program is
            compiled for each. To keep the device busy, let them be put on it ahead of
            time (`zoo.stream(..., device=...)`).
        config: see `FitConfig`; `seed` decides the keys of the loss alone.
        optimizer: as in `fit`.
        evaluate: as in `fit`.
        out: as in `fit`.
        settings: what else decides the numbers, the stream included; compared on
            resume.
        progress: as in `fit`.
        save_seconds: as in `fit`.
        mesh: as in `fit`; batches lie there at once if they are put on
            `batch_sharding(mesh)` ahead of time.

    Raises:
        ValueError: if a batch has another size, the stream ends before the last step,
            or as `fit`.
        TypeError: as `fit`.
        FloatingPointError: as `fit`; in a batch some steps before the one that was
            read last.
        CheckpointError: if all checkpoints are damaged; one that is intact is gone on
            with, with a `CheckpointWarning`.
        DiskFullError: if there is no room to save; the same call goes on later.
        Interrupted: after a signal, with the state saved.
    """
    check_select("fit_stream", config, evaluate)
    begin = batches.get_state()
    example = next(batches)
    batches.set_state(begin)
    _check_size(example, config, mesh)
    check_batch("fit_stream(mesh=...)", mesh, config.batch_size)
    whole = _whole(example, config)
    shapes = check_loss(loss_fn, params, whole, config.batch_size)
    state = init_state(params, optimizer, config, shapes)
    if out is not None:
        claim(out, config, {"batch": _shapes(whole)}, settings)
    with ExitStack() as stack:
        store = stop = None
        if out is not None:
            store = stack.enter_context(Checkpointer(out / "ckpt"))
            stop = stack.enter_context(catch_signals())
        save = (store, out, progress, save_seconds, mesh, batches)
        run = Run(config, evaluate, state, *save)
        if run.ended is None:
            programs = _Programs(make_step(loss_fn, optimizer, config), run, mesh)
            programs.of(programs.put(example))
            train(run, _advance(programs, config), batches, stop)
        run.obey(stop)
        return run.result()


class _Programs:
    """One program for each shape of batches, compiled when the first one comes.

    One step, or none once a loss was not finite: the state stays as it was then.
    """

    def __init__(
        self,
        one_step: Callable[[State, Batch], State],
        run: Run,
        mesh: Mesh | None,
    ) -> None:
        def step(state: State, batch: Batch) -> State:
            return jax.lax.cond(state["finite"], one_step, lambda s, _: s, state, batch)

        out = None if mesh is None else state_shardings(mesh, run.state)
        self._step = jax.jit(step, donate_argnums=0, out_shardings=out)
        self._run, self.mesh = run, mesh
        # Later the state's own buffers may have been donated.
        self._state = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
            run.state,
        )
        self._found: dict[Any, Callable[[State, Batch], State]] = {}

    def put(self, batch: Batch) -> Batch:
        """Returns a batch where a program expects it."""
        if self.mesh is None:
            return batch
        sharding = batch_sharding(self.mesh)

        def join(leaf: Any) -> Any:
            if _is_whole(leaf) or jax.process_count() == 1:
                return jax.device_put(leaf, sharding)
            return jax.make_array_from_process_local_data(sharding, np.asarray(leaf))

        return jax.tree.map(join, batch)

    def of(self, batch: Batch) -> Callable[[State, Batch], State]:
        """Returns the program for batches of this shape."""
        leaves, tree = jax.tree.flatten(batch)
        shape = (tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves))
        if shape not in self._found:
            started = time.perf_counter()
            self._found[shape] = self._step.lower(self._state, batch).compile()
            self._run.compile_seconds += time.perf_counter() - started
        return self._found[shape]


def _advance(
    programs: _Programs, config: FitConfig
) -> Callable[[State, Batches, Any], State]:
    """From a state to a later step; the host hands out batches and does not wait."""

    def advance(state: State, batches: Batches, stop: Any) -> State:
        first = int(state["step"])
        for number in range(first, int(stop)):
            try:
                batch = next(batches)
            except StopIteration:
                raise ValueError(
                    f"fit_stream(batches=...): expected {config.steps} batches, got "
                    f"{number}. Let the stream go on for ever (epochs=None)."
                ) from None
            _check_size(batch, config, programs.mesh)
            batch = programs.put(batch)
            state = programs.of(batch)(state, batch)
        return state

    return advance


def _is_whole(leaf: Any) -> bool:
    """Whether it is of the examples of all processes."""
    return isinstance(leaf, jax.Array) and not leaf.is_fully_addressable


def _check_size(batch: Batch, config: FitConfig, mesh: Mesh | None) -> None:
    whole = mesh is None or _is_whole(jax.tree.leaves(batch)[0])
    processes = 1 if whole else jax.process_count()
    found = num_examples(batch)
    if found * processes != config.batch_size:
        raise ValueError(
            f"fit_stream(batches=...): expected batches of {config.batch_size} "
            f"examples in {processes} pieces, got a piece of {found}. Leave the last "
            f"one out (whole=True), and give every process its shard."
        )


def _whole(batch: Batch, config: FitConfig) -> Batch:
    """Returns the shapes of the batch of all processes."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            (config.batch_size, *leaf.shape[1:]), leaf.dtype
        ),
        batch,
    )


def _shapes(batch: Batch) -> dict[str, str]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(batch)
    return {
        jax.tree_util.keystr(path): f"{np.dtype(leaf.dtype)}{list(leaf.shape)}"
        for path, leaf in leaves
    }
