"""What a generated zoo is, as data."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from qejax.nets import NetConfig, config_from_dict

OPTIMIZERS = ("sgd", "momentum", "adam", "rmsprop")
INITS = ("he_normal", "he_uniform", "glorot_normal", "glorot_uniform")
"""Scaled by fans; drawn by default."""
KNOWN_INITS = (*INITS, "normal")
LOG_RANGES = ("learning_rate", "init_scale", "weight_decay")


def check_bucket_name(name: Any, what: str) -> None:
    """Raises unless a bucket name can be a folder and a TFDS configuration.

    Args:
        name: of the bucket.
        what: where the name comes from, for the message.

    Raises:
        ValueError: if it is anything but ASCII letters, digits and underscores.
    """
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_]+", name):
        raise ValueError(
            f"{what}: names are letters, digits and underscores, got {name!r}. Rename "
            f"the bucket."
        )


@dataclass(frozen=True)
class ZooConfig:
    """How a zoo of networks is trained; one seed decides every byte.

    Every network draws its own value of what varies. Ranges are inclusive; "log" means
    that the logarithm is uniform.

    Attributes:
        buckets: `(name, network)` for each architecture; a dict is taken too. Networks
            of a bucket are trained at once and stored together.
        count: networks in a bucket, diverged ones included.
        seed: of everything.
        steps: range of the stopping step, log, rounded down. 0 leaves a network at
            its start.
        batch: data points in a minibatch.
        optimizers: drawn uniformly, of "sgd", "momentum", "adam", "rmsprop".
        learning_rate: range for Adam and RMSprop, log. Momentum takes 10 times as
            much, SGD 30 times.
        equal_rates: whether momentum and SGD take no more than the others.
        schedule: steps of linear warm-up, and steps after which the rate is zero: half
            a cosine between. (0, 0) keeps the rate. A network that stops earlier stops
            in the middle of it.
        inits: drawn uniformly, of "he_normal", "he_uniform", "glorot_normal",
            "glorot_uniform" and "normal".
        init_scale: range of the factor on initial kernels, log; with "normal" it is
            their standard deviation.
        weight_decay: range of the L2 coefficient that is added to the gradient, log.
        dropout: range of the rate after every hidden layer; half of the networks have
            none.
        train_fraction: range of the share of the training data that a network sees,
            a random subset of its own.
        chunk: networks in one compiled program. They share the order of minibatches
            and the uniform draws behind dropout, so it is part of what decides the
            bytes. Finished chunks are kept when a generation is interrupted.
        split_seed: of the split by network.

    Raises:
        ValueError: at construction; names the field, what was expected and found.
    """

    buckets: Any
    count: int = 640
    seed: int = 0
    steps: tuple[int, int] = (8, 1000)
    batch: int = 64
    optimizers: tuple[str, ...] = OPTIMIZERS
    learning_rate: tuple[float, float] = (1e-4, 1e-2)
    equal_rates: bool = False
    schedule: tuple[int, int] = (0, 0)
    inits: tuple[str, ...] = INITS
    init_scale: tuple[float, float] = (0.3, 2.0)
    weight_decay: tuple[float, float] = (1e-6, 1e-2)
    dropout: tuple[float, float] = (0.0, 0.5)
    train_fraction: tuple[float, float] = (0.05, 1.0)
    chunk: int = 64
    split_seed: int = 0

    def __post_init__(self) -> None:
        """Turns lists and dicts into tuples, and checks."""
        pairs = self.buckets
        pairs = pairs.items() if isinstance(pairs, Mapping) else pairs
        object.__setattr__(
            self, "buckets", tuple((name, _network(net)) for name, net in pairs)
        )
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
        self._check()

    def _check(self) -> None:
        names = [name for name, _ in self.buckets]
        if not names or len(set(names)) != len(names):
            raise ValueError(
                f"zoo config buckets: expected at least one, names unique, got {names}."
            )
        for name in names:
            check_bucket_name(name, "zoo config buckets")
        for name in ("count", "batch", "chunk"):
            got = getattr(self, name)
            if got < 1:
                raise ValueError(f"zoo config {name}: expected at least 1, got {got}.")
        for name in ("seed", "split_seed"):
            got = getattr(self, name)
            if not isinstance(got, int) or isinstance(got, bool) or got < 0:
                raise ValueError(
                    f"zoo config {name}: expected an integer of at least 0, got "
                    f"{got!r}."
                )
        for name, known in (("optimizers", OPTIMIZERS), ("inits", KNOWN_INITS)):
            got = getattr(self, name)
            if not got or not set(got) <= set(known):
                raise ValueError(
                    f"zoo config {name}: expected some of {list(known)}, got "
                    f"{list(got)}."
                )
        self._check_ranges()

    def _check_ranges(self) -> None:
        limits = {"steps": (0, None), "dropout": (0, 0.95), "train_fraction": (0, 1)}
        for name in ("learning_rate", "init_scale", "weight_decay", *limits):
            low, high = getattr(self, name)
            least, most = limits.get(name, (0, None))
            if not least <= low <= high or (most is not None and high > most):
                raise ValueError(
                    f"zoo config {name}: expected a range (low, high) within "
                    f"({least}, {most}), got {(low, high)}."
                )
            if name in LOG_RANGES and low == 0 < high:
                raise ValueError(
                    f"zoo config {name}: a log range starts above 0, got {(low, high)}."
                )
        warm_up, length = self.schedule
        scheduled = 0 <= warm_up < length and length >= self.steps[1]
        if (warm_up, length) != (0, 0) and not scheduled:
            raise ValueError(
                f"zoo config schedule: expected (0, 0), or fewer steps of warm-up than "
                f"steps in all and at least {self.steps[1]} of these, got "
                f"{(warm_up, length)}."
            )

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON types; `zoo_config_from_dict` reads them back."""
        values = asdict(self) | {
            "buckets": {name: net.to_dict() for name, net in self.buckets}
        }
        # Zoos that were made before these fields were there keep their recipes.
        for name in ("equal_rates", "schedule"):
            if getattr(self, name) == getattr(ZooConfig, name):
                del values[name]
        return json.loads(json.dumps(values))


def _network(net: NetConfig | dict[str, Any]) -> NetConfig:
    return config_from_dict(net) if isinstance(net, dict) else net


def zoo_config_from_dict(values: dict[str, Any]) -> ZooConfig:
    """Returns the configuration that `to_dict` wrote.

    Raises:
        ValueError: if a field is unknown.
    """
    known = [field.name for field in fields(ZooConfig)]
    unknown = [name for name in values if name not in known]
    if unknown or "buckets" not in values:
        raise ValueError(
            f"zoo config: expected 'buckets' and some of {known}, got unknown fields "
            f"{unknown} among {list(values)}."
        )
    return ZooConfig(**values)
