"""Editors take one function to one function, and strict ones commute with the group."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qejax import layers, nets, spaces, testing
from qejax.models import Editor, EditorConfig, prepare_edits
from tests.layer_specs import HEADS, fast_jit, random_module, relative_gap
from tests.registry import NETS, RTOL, compiled, element_of, gap, inputs_of, theta_of

SMALL = EditorConfig(depth=1, waves=2, rank=2, hidden=6, precision="float64")

SCALED = (
    "sine, then gaussian and relu",
    "mixed",
    "coordinates, relu with octaves",
)
DISCRETE = ("sine", "tanh", "gaussian")
CASES = [
    *(
        (name, kind)
        for name in (*SCALED, *DISCRETE)
        for kind in ("strict", "canonical")
    ),
    *((name, kind) for name in (*SCALED, "sine") for kind in ("gauge", "relative")),
    *((name, kind) for name in DISCRETE for kind in ("signed", "attention")),
]
STRICT = ("strict", "relative", "signed", "attention")


def editor_of(name: str, kind: Any, **options: Any) -> Any:
    """Of a kind; "attention" is "signed" with heads."""
    spec = NETS[name].net.spec if name in NETS else HEADS[name]
    if kind == "attention":
        kind, options = "signed", {"heads": 2, **options}
    config = EditorConfig(**{**vars(SMALL), **options})

    def make() -> Editor:
        return Editor(spec, 2, kind, config=config, rngs=nnx.Rngs(0))

    return random_module(make)


@functools.cache
def program(name: str, kind: str) -> Callable[[Any], Any]:
    return fast_jit(editor_of(name, kind))


@functools.cache
def normal_point(name: str) -> Callable[[Any], Any]:
    """Weights to those of their orbit that a normal form restores."""
    spec = NETS[name].net.spec

    def restored(theta: Any) -> Any:
        return spaces.restore(spec, spaces.canonical_form(spec, theta))

    return fast_jit(restored)


def entries(theta: Any) -> Any:
    """The entries of every leaf, sorted."""
    return jax.tree.map(lambda leaf: np.sort(np.ravel(leaf)), theta)


@pytest.mark.parametrize(("name", "kind"), CASES)
@pytest.mark.one_in(4)
def test_one_function_has_one_edit(name: str, kind: str) -> None:
    """`apply(F(g theta), x) == apply(F(theta), x)`, and `F` does something."""
    row, run, edit = NETS[name], compiled(name), program(name, kind)
    spec = row.net.spec
    theta, g, x = theta_of(spec, 0), element_of(spec, 0), inputs_of(row)
    moved = run.act(g, theta)
    edited, of_moved = edit(theta), edit(moved)
    y = run.apply(edited, x)
    assert gap(run.apply(of_moved, x), y) < RTOL
    assert gap(y, run.apply(theta, x)) > 1e-3
    # Without scales there is nothing for a gauge to choose.
    if kind in STRICT or (name, kind) == ("sine", "gauge"):
        assert relative_gap(run.act(run.inv(g), of_moved), edited) < RTOL
    else:
        assert relative_gap(of_moved, run.act(g, edited)) > 1e-3
    if kind == "canonical":
        assert relative_gap(entries(of_moved), entries(edited)) < RTOL
    # The step is no constant: another network is changed otherwise.
    points = [theta, theta_of(spec, 7)]
    if kind == "canonical":
        points = [normal_point(name)(one) for one in points]
    steps = [jax.tree.map(np.subtract, edit(one), one) for one in points]
    assert relative_gap(*steps) > 1e-3


@pytest.mark.parametrize(("name", "kind"), CASES)
@pytest.mark.one_in(4)
def test_the_function_of_an_edit_sees_every_leaf(name: str, kind: str) -> None:
    row, run, edit = NETS[name], compiled(name), program(name, kind)
    x, theta, key = inputs_of(row), theta_of(row.net.spec, 0), jax.random.key(0)

    def change(theta: Any) -> Any:
        return run.apply(edit(theta), x) - run.apply(theta, x)

    testing.assert_sensitive(change, row.net.spec, theta, key)


def test_controls_of_sensitivity() -> None:
    row, run = NETS["sine"], compiled("sine")
    x, theta, key = inputs_of(row), theta_of(row.net.spec, 0), jax.random.key(0)
    identity = testing.sensitive(
        lambda theta: run.apply(theta, x) - run.apply(theta, x),
        row.net.spec,
        theta,
        key,
    )
    assert not identity.passed
    constant = testing.sensitive(
        lambda theta: run.apply(theta_of(row.net.spec, 9), x), row.net.spec, theta, key
    )
    assert not constant.passed


@pytest.mark.parametrize("kind", ["strict", "relative"])
@pytest.mark.parametrize("name", HEADS)
@pytest.mark.one_in(3)
def test_edits_commute_with_matrices(name: str, kind: str) -> None:
    """`F(g theta) == g F(theta)` where general linear maps act, and `F` edits."""
    spec, edit = HEADS[name], program(name, kind)
    act = fast_jit(functools.partial(spaces.act, spec))
    theta, g = theta_of(spec, 0), element_of(spec, 0, 30.0)
    edited = edit(theta)
    assert relative_gap(edit(act(g, theta)), act(g, edited)) < RTOL
    assert relative_gap(edited, theta) > 1e-3
    assert relative_gap(act(g, edited), edited) > 1e-3


@pytest.mark.parametrize(
    "name",
    [x if x == "grouped" else pytest.param(x, marks=pytest.mark.slow) for x in HEADS],
)
def test_edits_of_normal_forms_of_matrices(name: str) -> None:
    """`F(g theta)` has the entries of `F(theta)`, in an order of its own."""
    spec, edit = HEADS[name], program(name, "canonical")
    act = fast_jit(functools.partial(spaces.act, spec))
    theta, g = theta_of(spec, 0), element_of(spec, 0, 3.0)
    edited = entries(edit(theta))
    assert relative_gap(entries(edit(act(g, theta))), edited) < RTOL
    assert relative_gap(entries(edit(theta_of(spec, 7))), edited) > 1e-3


@pytest.mark.parametrize("name", ["sine", "mixed"])
def test_a_raw_map_in_an_edit_is_caught(name: str) -> None:
    row, run, edit = NETS[name], compiled(name), program(name, "strict")
    spec = row.net.spec
    theta, g, x = theta_of(spec, 0), element_of(spec, 0, 10.0), inputs_of(row)

    def broken(theta: Any) -> Any:
        raw = jax.tree.map(lambda leaf: 0.1 * jnp.cos(leaf), theta)
        return jax.tree.map(jnp.add, edit(theta), raw)

    there = broken(run.act(g, theta))
    assert gap(run.apply(there, x), run.apply(broken(theta), x)) > 1e-3
    assert relative_gap(there, run.act(g, broken(theta))) > 1e-3


def test_a_step_along_raw_phases_is_caught() -> None:
    """Control: the same changes, put on the weights without their half periods."""
    row, run = NETS["sine"], compiled("sine")
    spec, editor = row.net.spec, editor_of("sine", "strict")
    theta, g, x = theta_of(spec, 0), element_of(spec, 0), inputs_of(row)

    @fast_jit
    def broken(theta: Any) -> Any:
        prepared = editor.prepare(theta)
        out = editor.out(prepared["features"], {})
        leaves = spaces.views(spec, theta)
        for path, x in leaves.items():
            known = path if path in out else f"{path}_cos"
            leaves[path] = x + 0.1 * out[known]
        return spaces.from_views(spec, leaves, theta)

    there = broken(run.act(g, theta))
    assert gap(run.apply(there, x), run.apply(broken(theta), x)) > 1e-3


@pytest.mark.parametrize("name", ["mixed"])
def test_the_factor_of_a_gauge_edit(name: str) -> None:
    """`g' = alpha(g theta) g alpha(theta)^-1`, and the function is that of "strict"."""
    row, run, edit = NETS[name], compiled(name), program(name, "gauge")
    spec, editor = row.net.spec, editor_of(name, "gauge")
    theta, g, x = theta_of(spec, 0), element_of(spec, 0, 30.0), inputs_of(row)

    @fast_jit
    def alpha(theta: Any) -> Any:
        feats = layers.features(spec, theta)
        return layers.elements(spec, editor.alpha(feats))

    moved = run.act(g, theta)
    h = run.mul(alpha(moved), run.mul(g, run.inv(alpha(theta))))
    edited = edit(theta)
    assert relative_gap(edit(moved), run.act(h, edited)) < RTOL
    assert relative_gap(edit(moved), run.act(g, edited)) > 1e-3
    editor.alpha = None
    plain = fast_jit(editor)(theta)
    assert gap(run.apply(edited, x), run.apply(plain, x)) < RTOL
    assert relative_gap(edited, plain) > 1e-3


@pytest.mark.parametrize("kind", ["strict", "relative", "signed", "canonical"])
@pytest.mark.one_in(2)
def test_without_a_step_an_edit_is_the_identity(kind: str) -> None:
    spec = NETS["sine"].net.spec
    editor, theta = editor_of("sine", kind), theta_of(spec, 0)
    for eta in jax.tree.leaves(editor.eta, is_leaf=lambda x: isinstance(x, nnx.Param)):
        eta.set_value(jnp.zeros_like(eta[...]))
    expected = theta
    if kind == "canonical":
        expected = spaces.restore(spec, spaces.canonical_form(spec, theta))
    got = fast_jit(editor)(theta)
    assert relative_gap(got, expected) < (1e-14 if kind == "canonical" else 1e-300)


def test_the_head_starts_small_and_scales_are_fitted() -> None:
    net = nets.coordinate((2, 4, 4, 1), "sine(9)")
    config = EditorConfig(depth=1, waves=2, rank=2, hidden=4)
    editor = Editor(net.spec, 2, "signed", config=config, rngs=nnx.Rngs(0))
    thetas = theta_of(net.spec, 0, jnp.float32, batch=(5,))
    prepared = prepare_edits(editor, thetas)
    editor.fit_scale(prepared["features"])
    edited = fast_jit(jax.vmap(editor.edit))(prepared)
    assert 1e-5 < relative_gap(edited, thetas) < 0.5
    for path, x in prepared["features"].items():
        root = np.sqrt(np.mean(np.square(x)))
        got = float(editor.scale.of(path, x))
        assert got == pytest.approx(float(root), rel=1e-5)


@pytest.mark.slow
def test_a_transformer_is_edited_in_its_normal_form() -> None:
    """Heads, norms and shifts are settled: what is left is an order of units."""
    name = "small transformer zoo"
    row, run, edit = NETS[name], compiled(name), program(name, "canonical")
    theta, x = theta_of(row.net.spec, 0), inputs_of(row)
    moved = run.act(element_of(row.net.spec, 0, 3.0), theta)
    y = run.apply(edit(theta), x)
    assert gap(run.apply(edit(moved), x), y) < RTOL
    assert gap(y, run.apply(theta, x)) > 1e-3


def test_what_an_editor_refuses() -> None:
    def make(name: str, kind: Any, config: EditorConfig = SMALL) -> Editor:
        return Editor(NETS[name].net.spec, 2, kind, config=config, rngs=nnx.Rngs(0))

    with pytest.raises(ValueError, match=r"Editor\(quasi=...\): expected one of"):
        make("sine", "free")
    with pytest.raises(ValueError, match="of which nothing but the phases of sine"):
        make("vit, class token", "strict")
    with pytest.raises(ValueError, match="expected units that permute and flip, got"):
        make("mixed", "signed")
    with pytest.raises(ValueError, match="heads of the kind 'signed' alone, got"):
        make("sine", "strict", EditorConfig(heads=2))
