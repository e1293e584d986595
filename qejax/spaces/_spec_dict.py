"""A weight space as a dict of JSON types, and back."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from qejax.spaces._spec import Axis, Leaf, Route, Shift, UnitSpace, WeightSpec


def spec_to_dict(spec: WeightSpec) -> dict[str, Any]:
    """Returns the fields of a spec, of JSON types and tuples only.

    Example:
        >>> from qejax import nets
        >>> spec = nets.mlp((4, 3, 2)).spec
        >>> spec_from_dict(spec_to_dict(spec)) == spec
        True
    """
    return asdict(spec)


def spec_from_dict(values: Mapping[str, Any]) -> WeightSpec:
    """Returns the spec that `spec_to_dict` wrote, also after a trip to JSON.

    Args:
        values: its fields; lists stand for tuples.

    Raises:
        ValueError: if a field is missing or unknown, or the spec is none.
    """
    try:
        return WeightSpec(
            spaces=tuple(UnitSpace(**row) for row in values["spaces"]),
            leaves=tuple(_leaf(row) for row in values["leaves"]),
            shifts=tuple(_shift(row) for row in values["shifts"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"weight spec: expected fields as spec_to_dict writes them, got "
            f"{type(error).__name__}: {error}. Write it again."
        ) from error


def _leaf(row: dict[str, Any]) -> Leaf:
    axes = tuple(Axis(**axis) for axis in row["axes"])
    shape = None if row["shape"] is None else tuple(row["shape"])
    return Leaf(**{**row, "axes": axes, "shape": shape})


def _shift(row: dict[str, Any]) -> Shift:
    routes = tuple(Route(**route) for route in row["routes"])
    return Shift(**{**row, "routes": routes, "along": tuple(row["along"])})
