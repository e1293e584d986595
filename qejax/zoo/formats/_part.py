"""Which part of a training checkpoint is the network.

Beside the weights, a checkpoint has what training goes on from: moments of an
optimizer, keys of random numbers, counts, losses. These are told by their names. What
is told by none stays: nothing that may be a weight is left out silently.
"""

import re
from collections.abc import Iterable, Mapping

import numpy as np

Tensors = Mapping[str, np.ndarray]

OPTIMIZERS = (
    r"(?:(?:[a-z0-9]+_)*optim(?:i[sz]er)?s?(?:_states?)?(?:_dicts?)?|opt_states?)"
)
TRAINING = re.compile(
    rf"(?:{OPTIMIZERS}|opt(?=\.state\.)|(?:[a-z]+_)*rngs?"
    r"(?:_states?)?|random(?:_[a-z]+)*|(?:[a-z]+_)*sched(?:uler)?s?|(?:[a-z]+_)*scaler"
    r"|callbacks|loops)(?:\.|$)",
    re.IGNORECASE,
)
"""Begins the name of what an optimizer, a schedule or random numbers go on from."""

MOMENTS = re.compile(rf"{OPTIMIZERS}|opt", re.IGNORECASE)
"""Of these, parts whose arrays look like weights; others hold numbers alone."""

MAX_DEPTH = 4
"""Of parts in parts."""

COUNTS = {
    *("acc", "accuracy", "best", "count", "epoch", "epochs", "error", "iter"),
    *("iteration", "iterations", "loss", "lr", "metric", "score", "seed", "step"),
    *("steps", "time"),
}
"""Words in the names of single numbers that are told of training."""

NETWORKS = {
    *("avg", "best", "ema", "model", "net", "network", "params", "state", "student"),
    *("swa", "target", "teacher", "weights"),
}
"""Words in the names of parts that are a network each."""


def weights_of(where: str, tensors: Tensors, part: str | None = None) -> Tensors:
    """Returns the tensors of the network in a checkpoint.

    A file of nothing but a network comes back as it is. Else the names are those
    inside the part that is left when moments, random numbers and counts are taken
    away; several parts that are left are taken together, unless each is a network.

    Args:
        where: the file, for messages.
        tensors: by dotted name.
        part: dotted name of the part to look into; the whole file by default.

    Raises:
        ValueError: if there is no such part, or one of several must be chosen; names
            them.

    Example:
        >>> tensors = {"model.0.weight": np.zeros((2, 3)), "loss": np.zeros(())}
        >>> tensors |= {"model.2.weight": np.zeros((1, 2))}
        >>> tensors |= {"optimizer.state.0.exp_avg": np.zeros((2, 3))}
        >>> list(weights_of("a.pt", tensors))
        ['0.weight', '2.weight']
    """
    if part is not None:
        inner = _inside(tensors, part)
        if not inner:
            raise ValueError(
                f"{where}: expected tensors in the part {part!r}, got the parts "
                f"{_parts(tensors)[:8]}. Choose one of them with --part NAME, in "
                f"Python part=NAME."
            )
        tensors = inner
    place, kept = _core(tensors)
    place = f"{part}.{place}" if part else place
    rivals = _rivals(kept)
    if rivals:
        raise ValueError(
            f"{where}: expected one network in a file, got one in each of the parts "
            f"{[place + name for name in rivals[:8]]}. Say which with --part NAME, in "
            f"Python part=NAME."
        )
    # Names of a network that is alone in its file may be those of its layers.
    return tensors if len(kept) == len(tensors) else kept


def choices(tensors: Tensors) -> list[str]:
    """Returns the parts that may be a network of their own, if there are several."""
    place, kept = _core(tensors)
    found = [place + p for p in _parts(kept) if _layers(_inside(kept, p)) > 1]
    return found if len(found) > 1 else []


def _core(tensors: Tensors) -> tuple[str, Tensors]:
    """The tensors that may be weights, and what was in front of their names."""
    place = ""
    for _ in range(MAX_DEPTH):
        tensors = {n: x for n, x in tensors.items() if not _of_training(n, x)}
        parts = _parts(tensors)
        stated = [name for name in parts if name.lower().endswith("state_dict")]
        others = [name for name in parts if name not in stated]
        layers = sum(_layers(_inside(tensors, name)) for name in others)
        # Whoever saves a `state_dict` has all weights in it.
        chosen = stated if len(stated) == 1 and not layers else parts
        inner = _inside(tensors, chosen[0]) if len(chosen) == 1 else {}
        if not inner:
            break
        place, tensors = f"{place}{chosen[0]}.", inner
    return place, tensors


def _of_training(name: str, tensor: np.ndarray) -> bool:
    """Whether a tensor is none of a network, by its name and axes."""
    whole = tensor.dtype.kind in "iub"
    if whole and "rngs" in name.split("."):  # Flax keeps those of a dropout in it
        return True
    if TRAINING.match(name):
        return bool(MOMENTS.match(name)) or whole or tensor.ndim == 0
    single = tensor.ndim == 0 and "." not in name
    return single and (whole or bool(COUNTS & set(_words(name))))


def _words(name: str) -> Iterable[str]:
    return re.split("[^a-z]+", name.lower())


def _parts(tensors: Tensors) -> list[str]:
    """What names begin with, up to their first dot."""
    return list(dict.fromkeys(name.partition(".")[0] for name in tensors))


def _inside(tensors: Tensors, part: str) -> dict[str, np.ndarray]:
    start = f"{part}."
    return {n.removeprefix(start): x for n, x in tensors.items() if n.startswith(start)}


def _layers(tensors: Tensors) -> int:
    """How many kernels there are."""
    return sum(x.ndim >= 2 for x in tensors.values())


def _rivals(tensors: Tensors) -> list[str]:
    """Parts of equal layers, of which one is named as a network is."""
    alike: dict[object, list[str]] = {}
    for part in _parts(tensors):
        inner = _inside(tensors, part)
        if _layers(inner) > 1:
            tree = frozenset((name, x.shape) for name, x in inner.items())
            alike.setdefault(tree, []).append(part)
    for same in alike.values():
        if len(same) > 1 and any(NETWORKS & set(_words(part)) for part in same):
            return same
    return []
