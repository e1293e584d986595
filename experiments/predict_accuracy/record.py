"""Files of a run: the config with its versions, the log, finished stages.

A stage is a named piece of work whose results are arrays and numbers. It is kept
under the fingerprint of everything that it depends on, so that a changed flag never
finds a stale result and an unchanged one never repeats work.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qejax._disk import room
from qejax._processes import is_first

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn")


def plain(value: Any) -> Any:
    """Returns `value` as JSON holds it: dicts, lists, strings, numbers.

    Example:
        >>> plain({"a": (1, Path("b"))})
        {'a': [1, 'b']}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return value.as_posix()
    return value


def fingerprint(*parts: Any) -> str:
    """Returns ten hex digits that change with any of `parts`."""
    text = json.dumps(plain(list(parts)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def write_json(path: Path, value: Any) -> None:
    """Writes `path` whole or not at all; of many processes the first one does."""
    if not is_first():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with room(path):
        partial.write_text(json.dumps(plain(value), indent=2) + "\n")
    os.replace(partial, path)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an `npz` whole or not at all; of many processes the first one does."""
    if not is_first():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with room(path), partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **dict(arrays))
    os.replace(partial, path)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of an `npz`; nothing in it is executed."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def versions() -> dict[str, str]:
    """Returns the versions that the numbers of a run depend on."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found}


def machine() -> dict[str, Any]:
    """Describes the machine without naming it."""
    import jax

    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cpus": count or os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
    }


class Log:
    """Appends one JSON object a line to `log.jsonl`, each with the time in seconds.

    Seconds count the whole run: a run that was stopped goes on where its log ended. Of
    many processes the first one writes.
    """

    def __init__(self, path: Path, key: str) -> None:
        """Opens the log of the run with fingerprint `key`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._start = time.monotonic() - _seconds_before(path, key)
        self.write("start", fingerprint=key)

    @property
    def seconds(self) -> float:
        """Seconds of work in this run, stops left out."""
        return time.monotonic() - self._start

    def write(self, event: str, **values: Any) -> None:
        """Appends one line."""
        if not is_first():
            return
        line = {"event": event, "seconds": round(self.seconds, 3), **plain(values)}
        with room(self._path), self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def _seconds_before(path: Path, key: str) -> float:
    """Returns how long the run with this fingerprint went on before."""
    seconds, mine = 0.0, False
    for text in path.read_text().splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue  # the line that a kill tore
        if line["event"] == "start":
            mine = line["fingerprint"] == key
        if mine:
            seconds = line["seconds"]
    return seconds
