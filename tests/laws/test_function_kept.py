"""The symmetry of a spec is a symmetry of its network: the function is kept.

And what a wrong spec claims is none.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import _trees, groups, spaces, testing
from qejax.spaces import Shift, WeightSpec
from tests.layer_specs import fast_jit
from tests.registry import (
    COND,
    MOVED_MLPS_AND_CNNS,
    NETS,
    RTOL,
    TRANSFORMERS,
    compiled,
    element_of,
    gap,
    inputs_of,
    theta_of,
)


@pytest.mark.parametrize("name", NETS)
def test_function_kept(name):
    row, run = NETS[name], compiled(name)
    x = inputs_of(row)
    for seed in range(3):
        theta, g = theta_of(row.net.spec, seed), element_of(row.net.spec, seed)
        before, after = run.apply(theta, x), run.apply(run.act(g, theta), x)
        # Relative to each output over the data: its constant part would hide a gap.
        size = np.max(np.abs(before - before.mean(0, keepdims=True)), axis=0)
        assert np.all(np.abs(after - before) <= RTOL * size), name


@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.one_in(3)
def test_function_kept_space_by_space_and_shift_by_shift(name):
    """With the sampler of the library; the controls see every one of them."""
    row, spec = NETS[name], NETS[name].net.spec
    theta, x, key = theta_of(spec, 3), inputs_of(row), jax.random.key(3)
    report = testing.function_kept(
        compiled(name).apply, spec, theta, x, key, spread=COND
    )
    report.check()
    assert set(report.parts) == {s.name for s in (*spec.spaces, *spec.shifts)}
    silent = {shift.name for shift in spec.shifts if not shift.routes}
    assert len(report.controls) == 2 + len(report.parts) - len(silent)
    # Six orders above the largest gap that passes.
    assert min(control.value for control in report.controls) > 1e-4


Wrong = Callable[[WeightSpec], WeightSpec]


def regrouped(name: str, group: str) -> Wrong:
    def change(spec: WeightSpec) -> WeightSpec:
        spaces = [replace(s, group=group) if s.name == name else s for s in spec.spaces]
        return replace(spec, spaces=tuple(spaces))

    return change


def with_shift(shift: Shift) -> Wrong:
    return lambda spec: replace(spec, shifts=(*spec.shifts, shift))


def without_route(name: str, number: int) -> Wrong:
    def change(spec: WeightSpec) -> WeightSpec:
        shifts = [
            replace(s, routes=s.routes[:number] + s.routes[number + 1 :])
            if s.name == name
            else s
            for s in spec.shifts
        ]
        return replace(spec, shifts=tuple(shifts))

    return change


def as_if_plain(group: str) -> Wrong:
    """The stream's group as if norms had no scale, which then never moves."""
    return lambda spec: regrouped("stream_0", group)(spec.permutations_only())


ROTARY, VIT = "rms without scale, rotary, grouped", "vit, class token"
HEAD = "block_00.attention"
WRONG: dict[str, tuple[str, Wrong, str]] = {
    "any matrix on a rotary head": (
        ROTARY,
        regrouped(f"{HEAD}.qk", "general_linear"),
        f"{HEAD}.qk",
    ),
    "a key shift on a rotary head": (
        ROTARY,
        with_shift(Shift("wrong", "block_00/attention/key/bias")),
        "wrong",
    ),
    "any matrix on a stream with norms": (
        ROTARY,
        regrouped("stream_0", "linear_stream"),
        "stream_0",
    ),
    "rotations of a stream with scaled norms": (
        "post-norm",
        as_if_plain("orthogonal_ones"),
        "stream_0",
    ),
    "rotations of the ones where norms centre": (
        "language, layer norm without scale",
        lambda spec: regrouped("stream_0", "orthogonal")(replace(spec, shifts=())),
        "stream_0",
    ),
    "one reader of a norm's bias has no route": (
        VIT,
        without_route("block_00.norm_1.bias.shift", 2),
        "block_00.norm_1.bias.shift",
    ),
}
"""By name: a network, a change of its spec, and what is no symmetry then."""


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_spec_of_a_transformer_is_seen(case):
    name, change, wrong = WRONG[case]
    spec = change(NETS[name].net.spec)
    report = testing.function_kept(
        compiled(name).apply,
        spec,
        theta_of(spec, 3),
        inputs_of(NETS[name]),
        jax.random.key(3),
    )
    assert report.gap > 1e-3
    assert {part for part, found in report.parts.items() if found > RTOL} == {wrong}
    what = "unit space" if wrong in spec.space_by_name else "shift"
    assert f"{what} {wrong!r}" in report.message()


def test_a_route_of_the_wrong_sign_is_seen():
    """A network that takes its output bias off, under the spec of one that adds it."""
    spec, shift = NETS[VIT].net.spec, f"{HEAD}.value_shift"
    negative = {"block_00/attention/out/bias"}

    def apply(theta: Any, x: Any) -> Any:
        signed = {
            path: -leaf if path in negative else leaf
            for path, leaf in _trees.flatten(theta).items()
        }
        return compiled(VIT).apply(_trees.nest(signed), x)

    theta, x = theta_of(spec, 3), inputs_of(NETS[VIT])
    report = testing.function_kept(apply, spec, theta, x, jax.random.key(3))
    assert {part for part, found in report.parts.items() if found > RTOL} == {shift}
    assert report.gap > 1e-3


UNITS = ("post-norm, no residual, gated", "small transformer zoo")


@pytest.mark.parametrize("name", [*MOVED_MLPS_AND_CNNS, *UNITS])
def test_units_move_with_their_space(name):
    """Unit `i` of the result is unit `perm[i]`, times its scale to the degree."""
    row, run = NETS[name], compiled(name)
    spec, x = row.net.spec, inputs_of(row)
    theta, g = theta_of(spec, 0), element_of(spec, 0)
    units = fast_jit(row.net.units)
    before, after = units(theta, x)[1], units(run.act(g, theta), x)[1]
    hidden = [s.name for s in spec.spaces if s.name.endswith(("mlp", "head_hidden"))]
    if name in TRANSFORMERS:
        assert list(before) == hidden
    else:
        assert list(before) == [space.name for space in spec.spaces]
    for space, x in before.items():
        scale = np.asarray(g[space].scale) ** _degree(spec, space)
        scale = scale * _gate(g, space) * (-1.0) ** _turns(g[space])
        expected = np.asarray(x)[..., np.asarray(g[space].perm)] * scale
        np.testing.assert_allclose(
            after[space],
            expected,
            rtol=RTOL,
            atol=RTOL * float(np.max(np.abs(expected))),
        )


def _turns(element: Any) -> Any:
    """Half periods of a sine unit, each of which flips it."""
    return np.asarray(element.turns) if isinstance(element, groups.Dihedral) else 0


def _gate(g: spaces.Elements, name: str) -> Any:
    """The scale of what a gate is multiplied with, one for each unit."""
    scale = g.get(f"{name}.scale")
    return 1.0 if scale is None else np.asarray(scale)[:, 0, 0]


def _degree(spec: spaces.WeightSpec, name: str) -> int:
    (power,) = {
        axis.power
        for leaf in spec.leaves
        for axis in leaf.axes
        if axis.space == name and axis.power < 0
    }
    return -power


@pytest.mark.parametrize("name", ["five hidden layers", "cnn, same, flatten", "tanh"])
def test_function_kept_in_float32(name):
    """1e-5 is 20 times the worst gap of float32 at this depth."""
    row, run = NETS[name], compiled(name)
    theta = theta_of(row.net.spec, 0, jnp.float32)
    x = inputs_of(row, dtype=jnp.float32)
    g = element_of(row.net.spec, 0, dtype=jnp.float32)
    after = run.apply(run.act(g, theta), x)
    assert after.dtype == jnp.float32
    assert gap(after, run.apply(theta, x)) < 1e-5
