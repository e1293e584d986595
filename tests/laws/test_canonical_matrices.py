"""Normal forms where matrices act: heads, streams, norms, shifts, adapters.

Matrices have condition number 100, scales a spread of 1e4. After an element has moved
the weights, the form is that of the weights with units permuted, and settled weights
are moved by what is left of the element.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.architectures import vision
from qejax import _trees, nets, spaces
from qejax.groups import Monomial
from qejax.spaces import WeightSpec
from tests.layer_specs import fast_jit
from tests.registry import (
    RTOL,
    TRANSFORMERS,
    Row,
    compiled,
    element_of,
    inputs_of,
    theta_of,
)

TANH = vision(norm="rms", affine=False, activation="tanh", pool="class")
ADAPTED = "tanh, adapters"
ROWS: dict[str, Row] = TRANSFORMERS | {
    ADAPTED: Row(nets.adapted(TANH.net, 2, ("query", "down")), TANH.inputs),
    # The embedding writes 3 of 6 directions, the layers lead to the others.
    "wide, no norm": vision(width=6, norm="none", position="rotary", head_dim=2),
}
"""Every transformer, signed units beside adapters, and a stream followed in layers."""

EVERY = pytest.mark.parametrize("name", ROWS)
ONE = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "no norm" else [pytest.mark.slow])
        for name in ROWS
    ],
)


class Forms(NamedTuple):
    """What the laws are about, of one network."""

    settled: Any
    normal: spaces.Canonical
    restored: Any


class Run(NamedTuple):
    """The programs of one network, and its spec."""

    spec: WeightSpec
    act: Callable[..., Any]
    act_settled: Callable[..., Any]
    apply: Callable[..., Any]
    forms: Callable[..., Forms]


@functools.cache
def programs(name: str) -> Run:
    net = ROWS[name].net
    spec, free = net.spec, spaces.settled_spec(net.spec)
    act, act_settled = (
        fast_jit(functools.partial(spaces.act, one)) for one in (spec, free)
    )
    apply = fast_jit(net.apply)
    if name in TRANSFORMERS:  # With the other laws.
        act, apply = compiled(name).act, compiled(name).apply
    forms = fast_jit(functools.partial(forms_of, spec))
    return Run(spec, act, act_settled, apply, forms)


def forms_of(spec: WeightSpec, theta: Any) -> Forms:
    normal = spaces.canonical_form(spec, theta)
    return Forms(spaces.settled(spec, theta), normal, spaces.restore(spec, normal))


@functools.cache
def identity(spec: WeightSpec) -> Any:
    return spaces.identity(spec, jnp.float64)


def permutations(spec: WeightSpec, g: Any) -> Any:
    """The permutations of an element alone; all else is the identity."""
    found = dict(identity(spec))
    for name, one in g.items():
        if isinstance(one, Monomial):
            found[name] = found[name]._replace(perm=one.perm)
    return found


def rest(spec: WeightSpec, g: Any) -> Any:
    """What is left of an element once weights are settled."""
    return {space.name: g[space.name] for space in spaces.settled_spec(spec).spaces}


def worst(got: Any, expected: Any) -> float:
    """Largest difference relative to its leaf; entries of a normal form are near 1."""
    found, wanted = _trees.flatten(got), _trees.flatten(expected)
    assert list(found) == list(wanted)
    gaps = [0.0]
    for path, leaf in wanted.items():
        a, b = np.asarray(found[path]), np.asarray(leaf)
        assert np.all(np.isfinite(a)), path
        gaps.append(float(np.max(np.abs(a - b)) / max(np.max(np.abs(b)), 1e-3)))
    return max(gaps)


def broken_laws(name: str, theta: Any, seed: int = 0) -> dict[str, float]:
    """By law, how far it is from being true."""
    run = programs(name)
    g = element_of(run.spec, seed)
    moved = run.act(g, theta)
    here, there = run.forms(theta), run.forms(moved)
    x = inputs_of(ROWS[name])
    y = run.apply(theta, x)
    return {
        "normal": worst(
            there.normal.theta, run.act(permutations(run.spec, g), here.normal.theta)
        ),
        "log_norm": worst(there.normal.log_norm, here.normal.log_norm),
        "settled": worst(
            there.settled, run.act_settled(rest(run.spec, g), here.settled)
        ),
        "function": max(
            worst({"y": run.apply(one.restored, x)}, {"y": y}) for one in (here, there)
        ),
        "idempotent": worst(run.forms(here.restored).normal, here.normal),
    }


@EVERY
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.one_in(6)
def test_every_law(name: str, seed: int) -> None:
    found = broken_laws(name, theta_of(ROWS[name].net.spec, seed), seed)
    assert {law: gap for law, gap in found.items() if not gap <= RTOL} == {}


@EVERY
def test_control_unrelated_networks_have_other_forms(name: str) -> None:
    """Else the laws above would say nothing; and what is left out is constant."""
    run = programs(name)
    one, two = (run.forms(theta_of(run.spec, seed)) for seed in (0, 1))
    assert worst(one.normal.log_norm, two.normal.log_norm) > 1e-2
    left = spaces.settled_spec(run.spec).leaf_by_path
    first, second = (_trees.flatten(forms.normal.theta) for forms in (one, two))
    for path, leaf in first.items():
        gap = worst({path: leaf}, {path: second[path]})
        assert gap > 1e-2 if path in left else gap < RTOL, path


@EVERY
def test_control_weights_themselves_are_not_invariant(name: str) -> None:
    run = programs(name)
    theta, g = theta_of(run.spec, 0), element_of(run.spec, 0)
    moved = run.act(g, theta)
    assert worst(moved, run.act(permutations(run.spec, g), theta)) > 1e-2


def unshifted(spec: WeightSpec, theta: Any) -> Any:
    """A form that leaves shifts out."""
    return spaces.canonical_form(replace(spec, shifts=()), theta).theta


def unsettled(spec: WeightSpec, theta: Any) -> Any:
    """A form of the heads and units alone, without the step of settling."""
    free = spaces.settled_spec(spec)
    return spaces.canonical_form(free, spaces.reduced(spec, theta)).theta


@pytest.mark.parametrize("wrong", [unshifted, unsettled])
def test_a_form_that_forgets_something_is_caught(wrong: Any) -> None:
    run = programs("language, layer norm without scale")
    form = fast_jit(functools.partial(wrong, run.spec))
    theta, g = theta_of(run.spec, 0), element_of(run.spec, 0)
    here, there = form(theta), form(run.act(g, theta))
    if wrong is unsettled:
        free = spaces.settled_spec(run.spec)
        expected = run.act_settled(permutations(free, rest(run.spec, g)), here)
    else:
        expected = run.act(permutations(run.spec, g), here)
    assert worst(there, expected) > 1e-2


def test_what_is_left_are_the_permutations_of_the_spec() -> None:
    """The element of `permutations_only` does what that of the whole spec does."""
    run = programs("rms without scale, rotary, grouped")
    g = permutations(run.spec, element_of(run.spec, 0))
    free = run.spec.permutations_only()
    h = {}
    for space in run.spec.spaces:
        if space.name not in free.space_by_name:
            continue
        perm = g[space.name].perm
        if space.per is not None:
            hosts = g[space.per].perm
            perm = (hosts[:, None] * space.size + perm).reshape(-1)
        h[space.name] = Monomial(perm, jnp.ones(perm.shape))
    theta = theta_of(run.spec, 0)
    got = spaces.act(free, h, theta)
    assert worst(got, run.act(g, theta)) == 0
    assert worst(got, theta) > 1e-2


@ONE
def test_float32_keeps_the_function(name: str) -> None:
    theta = theta_of(ROWS[name].net.spec, 0, jnp.float32)
    run, x = programs(name), inputs_of(ROWS[name], dtype=jnp.float32)
    forms = run.forms(theta)
    assert {leaf.dtype for leaf in jax.tree.leaves(forms)} == {np.dtype("float32")}
    y = run.apply(theta, x)
    assert worst({"y": run.apply(forms.restored, x)}, {"y": y}) < 1e-4


@ONE
def test_batched_by_vmap_equals_a_loop(name: str) -> None:
    spec = ROWS[name].net.spec
    thetas = [theta_of(spec, seed) for seed in range(3)]
    batched = fast_jit(jax.vmap(functools.partial(forms_of, spec)))
    looped = [programs(name).forms(theta) for theta in thetas]
    assert worst(batched(_trees.stack(thetas)), _trees.stack(looped)) < 1e-13


# Dead units, and what has no full rank.

WHERE = "block_00/attention"

TIES = {
    # Nothing else writes the stream before it is read: the frame of what only later
    # layers write stays as it came.
    ("no norm", "embed/kernel"): "normal",
    ("wide, no norm", "embed/kernel"): "normal",
    # The only leaves that tell the signs of the stream before them.
    ("small transformer zoo", "block_00/mlp/up/kernel"): "normal",
    ("small transformer zoo", "block_01/mlp/up/kernel"): "idempotent",
    # Queries without keys become zero, and the adapter that writes them with them: it
    # counted for the frame of the stream before.
    (ADAPTED, f"{WHERE}/key/kernel"): "idempotent",
}
"""Leaves whose zeros leave several normal forms, and the law that does not hold."""


def expect_laws(name: str, theta: Any, case: str, tie: str = "") -> None:
    found = broken_laws(name, theta)
    if tie == "normal":
        found = {"function": found["function"]}
    assert {law for law, gap in found.items() if not gap <= RTOL} <= {tie}, case


@EVERY
def test_leaves_of_zeros(name: str) -> None:
    leaves = _trees.flatten(theta_of(ROWS[name].net.spec, 0))
    for path, leaf in leaves.items():
        theta = _trees.nest({**leaves, path: jnp.zeros_like(leaf)})
        expect_laws(name, theta, path, TIES.get((name, path), ""))
    nothing = jax.tree.map(jnp.zeros_like, _trees.nest(leaves))
    expect_laws(name, nothing, "all of them")


@pytest.mark.parametrize(("name", "path"), TIES)
def test_ties_are_ties(name: str, path: str) -> None:
    """Not a law; a form that fixed them would make the list above shorter."""
    leaves = _trees.flatten(theta_of(ROWS[name].net.spec, 0))
    theta = _trees.nest({**leaves, path: jnp.zeros_like(leaves[path])})
    assert broken_laws(name, theta)[TIES[name, path]] > 1e-2


def with_head(name: str, part: str, change: Callable[[Any], Any]) -> Any:
    """Weights in which the first head of one layer is changed, `[rows, d] -> same`."""
    leaves = _trees.flatten(theta_of(ROWS[name].net.spec, 0))
    path = f"{WHERE}/{part}/kernel"
    kernel = np.array(leaves[path])
    bias = np.array(leaves.get(f"{WHERE}/{part}/bias", np.zeros(kernel.shape[1:])))
    if part == "out":
        shared = kernel.shape[0] // leaves[f"{WHERE}/value/kernel"].shape[1]
        for query in range(shared):
            kernel[query] = change(kernel[query].T).T
    else:
        rows = change(np.concatenate([kernel[:, 0], bias[:1]]))
        kernel[:, 0], bias[0] = rows[:-1], rows[-1]
        if f"{WHERE}/{part}/bias" in leaves:
            leaves[f"{WHERE}/{part}/bias"] = jnp.asarray(bias)
    return _trees.nest({**leaves, path: jnp.asarray(kernel)})


def rank_one(rows: np.ndarray) -> np.ndarray:
    return np.outer(rows[:, 0], np.arange(1, rows.shape[1] + 1))


HEADED = (
    "vit, class token",
    "no norm",
    "small transformer zoo",
    "rms without scale, rotary, grouped",
)


@pytest.mark.parametrize("name", HEADED)
@pytest.mark.parametrize("part", ["query", "key", "value", "out"])
def test_dead_heads_and_zero_singular_values(name: str, part: str) -> None:
    expect_laws(name, with_head(name, part, np.zeros_like), "dead")
    theta = with_head(name, part, rank_one)
    expect_laws(name, theta, "rank one")
    if "rotary" in name and part in ("query", "key"):
        return  # Pairs of units: no singular values.
    pair = ("query", "key") if part in ("query", "key") else ("value", "out")
    normal = _trees.flatten(programs(name).forms(theta).normal.theta)
    for layer in pair:
        kernel = np.asarray(normal[f"{WHERE}/{layer}/kernel"])
        columns = kernel[0].T if layer == "out" else kernel[:, 0]
        assert np.all(columns[:, 1] == 0), layer
        assert np.max(np.abs(columns[:, 0])) > 1e-3, layer


@pytest.mark.parametrize("name", ["vit, class token", "no norm"])
def test_repeated_singular_values(name: str) -> None:
    """Columns are some basis of the same plane: products are equal, functions kept."""
    run = programs(name)
    leaves = _trees.flatten(theta_of(run.spec, 0))
    frame = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    for path, leaf in leaves.items():
        if path.endswith("scale"):
            leaves[path] = jnp.ones_like(leaf)
        elif path.endswith(("query/bias", "key/bias", "norm_1/bias")):
            leaves[path] = jnp.zeros_like(leaf)
    if name == "no norm":  # The stream is balanced by what first writes it.
        leaves["embed/kernel"] = jnp.asarray(frame)
    for part, columns in (("query", frame[:, :2]), ("key", frame[:, 2:])):
        path = f"{WHERE}/{part}/kernel"
        leaves[path] = leaves[path].at[:, 0].set(jnp.asarray(columns))
    theta, g = _trees.nest(leaves), element_of(run.spec, 0)
    here, there = run.forms(theta), run.forms(run.act(g, theta))
    x = inputs_of(ROWS[name])
    for forms in (here, there):
        y = run.apply(forms.restored, x)
        assert worst({"y": y}, {"y": run.apply(theta, x)}) < RTOL
    moved = run.act(permutations(run.spec, g), here.normal.theta)
    got, expected = product(there.normal.theta), product(moved)
    np.testing.assert_allclose(got, expected, atol=RTOL)
    values = np.linalg.svd(product(here.normal.theta)[0], compute_uv=False)
    assert values[0] - values[1] < 1e-12
    assert values[1] > 0.1


def product(theta: Any) -> np.ndarray:
    """`[H, D, D]`: queries times keys of the first layer."""
    heads = theta["block_00"]["attention"]
    query, key = (np.asarray(heads[part]["kernel"]) for part in ("query", "key"))
    return np.einsum("ahd,bhd->hab", query, key)


@pytest.mark.parametrize(
    "name", [name for name in ROWS if "norm" in name or "v" in name]
)
def test_a_norm_scale_of_zero(name: str) -> None:
    leaves = _trees.flatten(theta_of(ROWS[name].net.spec, 0))
    for path, leaf in leaves.items():
        if path.endswith("scale"):
            theta = _trees.nest({**leaves, path: leaf.at[1].set(0)})
            expect_laws(name, theta, path)
