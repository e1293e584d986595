import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax import _trees

TREE = {"layer": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}}


def test_paths_of_dicts_and_lists():
    leaves = _trees.flatten({"a": [1, {"b": 2}]})
    assert leaves == {"a/0": 1, "a/1/b": 2}


def test_equal_paths_are_refused():
    @jax.tree_util.register_pytree_with_keys_class
    class Twice:
        def tree_flatten_with_keys(self):
            key = jax.tree_util.DictKey
            return ((key(1), 10), (key("1"), 20)), None

        def tree_flatten(self):
            return (10, 20), None

        @classmethod
        def tree_unflatten(cls, aux, children):
            return cls()

    with pytest.raises(ValueError, match="two leaves of the tree have the path '1'"):
        _trees.flatten(Twice())


def test_nest_is_the_inverse_of_flatten():
    again = _trees.nest(_trees.flatten(TREE))
    jax.tree.map(np.testing.assert_array_equal, again, TREE)
    assert jax.tree.structure(again) == jax.tree.structure(TREE)


@pytest.mark.parametrize(
    ("got", "says"),
    [
        ({"layer": {"kernel": TREE["layer"]["kernel"]}}, r"missing .*layer/bias"),
        ({**TREE, "more": jnp.ones(1)}, r"unexpected leaves \['more'\]"),
        (
            {"layer": {**TREE["layer"], "bias": jnp.zeros(4)}},
            r"at 'layer/bias': expected shape \(3,\), got \(4,\)",
        ),
        (
            {"layer": {**TREE["layer"], "bias": jnp.zeros(3, jnp.float32)}},
            "at 'layer/bias': expected float64, got float32",
        ),
    ],
)
def test_check_tree_names_the_first_difference(got, says):
    with pytest.raises(ValueError, match=f"restored parameters do not fit.*{says}"):
        _trees.check_tree(TREE, got, "restored parameters")


def test_check_tree_takes_shapes_for_arrays():
    shapes = jax.eval_shape(lambda: TREE)
    _trees.check_tree(shapes, TREE, "parameters")
    assert _trees.describe_difference(TREE, shapes) is None


def test_stack_adds_a_leading_axis():
    many = _trees.stack([TREE, jax.tree.map(lambda x: 2 * x, TREE)])
    assert many["layer"]["kernel"].shape == (2, 2, 3)
    assert float(many["layer"]["kernel"][1, 0, 0]) == 2.0
    assert _trees.num_parameters(TREE) == 9
