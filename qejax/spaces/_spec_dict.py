"""A weight space as a dict of JSON types, and back."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from qejax.spaces._leaf import Axis, Cut, Leaf
from qejax.spaces._spec import Route, Shift, UnitSpace, WeightSpec


def spec_to_dict(spec: WeightSpec) -> dict[str, Any]:
    """Returns the fields of a spec, of JSON types and tuples only.

    Leaves that are whole arrays have no field `cut`.

    Example:
        >>> from qejax import nets
        >>> spec = nets.mlp((4, 3, 2)).spec
        >>> spec_from_dict(spec_to_dict(spec)) == spec
        True
    """
    values = asdict(spec)
    for row in values["leaves"]:
        if row["cut"] is None:
            del row["cut"]
    return values


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
    cut = None if row.get("cut") is None else _cut(row["cut"])
    return Leaf(**{**row, "axes": axes, "shape": shape, "cut": cut})


def _cut(row: dict[str, Any]) -> Cut:
    return Cut(**{**row, "shape": tuple(row["shape"]), "starts": tuple(row["starts"])})


def _shift(row: dict[str, Any]) -> Shift:
    routes = tuple(Route(**route) for route in row["routes"])
    return Shift(**{**row, "routes": routes, "along": tuple(row["along"])})
