"""What decides the numbers of a run, and the file that remembers it."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from qejax._disk import room
from qejax._processes import gather_json, on_first

DATA = "data"
"""Field of what is known of the examples."""

ROUNDING = 1e-6
"""Relative difference of sums over examples below which they are the same ones."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig:
    """What decides the numbers of a training run, next to its functions and data.

    Two runs with equal `FitConfig`, functions, data and device give bitwise the same
    numbers, however often they were interrupted.

    Attributes:
        steps: optimiser steps in all, at least 1.
        batch_size: examples a step, from 1 to the number of examples.
        eval_every: steps between evaluations, at least 1. One more evaluation comes
            before the first step and one after the last.
        seed: decides the order of examples and the keys that the loss receives;
            from 0 to 2^32 - 1.
        select: the metric whose best evaluation decides which parameters are
            returned; None returns the last ones.
        mode: whether the largest or the smallest `select` is best.
        patience: evaluations in a row without a better `select` after which the run
            ends; None never ends early.
        ema: decay in (0, 1) of an exponential moving average of the parameters, which
            is then evaluated and returned in their place; None for no average. The
            decay is warmed up: `min(ema, (1 + t) / (10 + t))` at step `t`.

    Raises:
        ValueError: on construction, if a field is out of its range.
    """

    steps: int
    batch_size: int
    eval_every: int
    seed: int = 0
    select: str | None = None
    mode: Literal["max", "min"] = "max"
    patience: int | None = None
    ema: float | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "eval_every", "patience"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(
                    f"FitConfig({name}=...): expected at least 1, got {value}."
                )
        if not 0 <= self.seed < 2**32:
            raise ValueError(
                f"FitConfig(seed=...): expected 0 <= seed < 2^32, got {self.seed}."
            )
        if self.mode not in ("max", "min"):
            raise ValueError(
                f"FitConfig(mode=...): expected 'max' or 'min', got {self.mode!r}."
            )
        if self.ema is not None and not 0.0 < self.ema < 1.0:
            raise ValueError(
                f"FitConfig(ema=...): expected a decay in (0, 1), got {self.ema}. Use "
                f"None for no average."
            )
        if self.patience is not None and self.select is None:
            raise ValueError(
                "FitConfig(patience=...): early stopping needs a metric, got "
                "select=None. Name the metric in `select`."
            )


def check_config(path: Path, config: Mapping[str, Any]) -> bool:
    """Makes `path` hold `config`, or raises if it holds another one.

    A directory belongs to one config: results of two are never mixed in it.

    Args:
        path: a JSON file; written (whole or not at all) if there is none.
        config: JSON values, nested dicts and lists (tuples count as lists).

    Returns:
        True if the file was there already.

    Raises:
        ValueError: if the file holds another config; names every field that differs.
        ValueError: if the file is not JSON.
        TypeError: if `config` is not made of JSON values.
    """
    text = _text(path, config)
    if not path.exists():
        replace_text(path, text + "\n")
        return False
    try:
        stored = json.loads(path.read_text())
    except json.JSONDecodeError as err:
        raise ValueError(
            f"{path}: expected the JSON config of a run, got text that is not JSON "
            f"({err}). Move the directory away, or choose another one."
        ) from err
    changed = _changed(stored, json.loads(text), "stored")
    if changed:
        raise ValueError(
            f"{path} belongs to a run with another config: {changed}. Use "
            f"another output directory, restore these fields to go on with that run, "
            f"or delete the directory to begin again."
        )
    return True


def claim(
    out: Path,
    config: FitConfig,
    data: Mapping[str, Any],
    settings: Mapping[str, Any] | None,
) -> None:
    """Makes a directory that of one run, or checks that it is.

    Args:
        out: the directory.
        config: of the loop.
        data: what is known of the examples; lists of numbers up to rounding.
        settings: what else decides the numbers.

    Raises:
        ValueError: as `check_config`.
        TypeError: as `check_config`.
    """
    loop = dataclasses.asdict(config)
    stored = {"loop": loop, DATA: dict(data), "settings": dict(settings or {})}
    mine = _text(out, stored)
    for index, other in enumerate(gather_json(mine)):
        changed = _changed(json.loads(other), json.loads(mine), f"process {index}")
        if changed:
            raise ValueError(
                f"{out}: expected the same run in every process, got {changed}. Start "
                f"all of them with the same command on the same files."
            )
    on_first(lambda: check_config(out / "fit.json", stored))


def replace_text(path: Path, text: str) -> None:
    """Writes a file so that it holds all of `text` or what it held before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with room(path), part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _text(path: Path, config: Any) -> str:
    """Returns a config as JSON.

    Raises:
        TypeError: if it is not made of JSON values.
    """
    try:
        return json.dumps(config, indent=2, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as err:
        raise TypeError(
            f"check_config({str(path)!r}): expected a config of JSON values, got one "
            f"that JSON refuses ({err}). Turn it into dicts, lists, strings and "
            f"finite numbers first."
        ) from err


def _changed(was: Any, now: Any, name: str) -> str:
    """Says which fields differ; `name` is where the first values are."""
    old, new = _fields(was), _fields(now)
    return "; ".join(
        f"{field}: {name} {_shown(old, field)}, now {_shown(new, field)}"
        for field in sorted(old.keys() | new.keys())
        if not _same(field, old, new)
    )


def _same(field: str, old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether two configs have one value there; lists of sums up to rounding."""
    one, other = old.get(field), new.get(field)
    if (
        field.startswith(f"{DATA}.")
        and isinstance(one, list)
        and isinstance(other, list)
        and len(one) == len(other)
    ):
        # Beside a large one, a small one may be of rounding alone.
        most = ROUNDING * max(map(abs, [*one, *other]), default=0.0)
        return all(abs(a - b) <= most for a, b in zip(one, other, strict=True))
    return _shown(old, field) == _shown(new, field)


def _fields(config: Any, path: str = "") -> dict[str, Any]:
    """Returns the values of nested dicts by dotted field name."""
    if not isinstance(config, dict) or not config:
        return {path: config}
    fields: dict[str, Any] = {}
    for key, value in config.items():
        fields |= _fields(value, f"{path}.{key}" if path else key)
    return fields


def _shown(fields: dict[str, Any], field: str) -> str:
    return json.dumps(fields[field]) if field in fields else "nothing"
