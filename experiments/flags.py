"""What the flags of several experiments have to be; errors name the flag."""

from collections.abc import Iterable, Sequence
from typing import Any


def flag(name: str) -> str:
    """Returns the flag of a field, such as "--learning-rate"."""
    return f"--{name.replace('_', '-')}"


def check_positive(config: Any, names: Iterable[str]) -> None:
    """Raises a `ValueError` unless these fields are at least 1."""
    for name in names:
        got = getattr(config, name)
        if got < 1:
            raise ValueError(f"{flag(name)} should be at least 1, got {got}.")


def check_some(config: Any, name: str, known: Sequence[str]) -> None:
    """Raises a `ValueError` unless a field has some of the known names, each once."""
    got = getattr(config, name)
    if not got or len(set(got)) < len(got) or not set(got) <= set(known):
        raise ValueError(
            f"{flag(name)} should be some of {list(known)}, each once, got {list(got)}."
        )


def check_ranges(config: Any, names: Iterable[str]) -> None:
    """Raises a `ValueError` unless these fields are ranges above 0."""
    for name in names:
        low, high = getattr(config, name)
        if not 0 < low <= high:
            raise ValueError(
                f"{flag(name)} should be a range (low, high) above 0, got "
                f"{(low, high)}."
            )


def check_selected(config: Any) -> None:
    """Raises a `ValueError` unless a model is evaluated before the last step."""
    if config.evaluate_every > config.steps:
        raise ValueError(
            f"--evaluate-every should be at most --steps ({config.steps}), got "
            f"{config.evaluate_every}: the model would never be selected."
        )


def check_rates(config: Any) -> None:
    """Raises a `ValueError` unless learning rate and dropout are in their ranges."""
    if not config.learning_rate > 0 or not 0 <= config.dropout < 1:
        raise ValueError(
            f"--learning-rate should be positive and --dropout in [0, 1), got "
            f"{config.learning_rate} and {config.dropout}."
        )
