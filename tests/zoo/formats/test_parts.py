"""Training checkpoints: the network in them is read, and what is beside it is not."""

import json
import shutil
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx, serialization
from flax.training.train_state import TrainState

from qejax import nets
from qejax.zoo import files, formats
from qejax.zoo.formats._part import choices, weights_of
from tests.zoo.files.make_fixtures import FIXTURES, numbers
from tests.zoo.files.torch_pickles import Call, Name, code, tensor, write

NET = nets.mlp((2, 3, 2), activation="tanh")
THEIRS = {
    "0.weight": numbers(17)[:6].reshape(3, 2),
    "0.bias": numbers(17)[6:9],
    "2.weight": numbers(17)[9:15].reshape(2, 3),
    "2.bias": numbers(17)[15:],
}


def folder(root: Path, name: str) -> Path:
    root.mkdir(exist_ok=True)
    shutil.copy(FIXTURES / name, root / name)
    return root


def stated(root: Path) -> Path:
    path = root / "tanh.json"
    path.write_text(json.dumps(NET.config.to_dict()))
    return path


@pytest.mark.parametrize("given", ["activation", "network"])
def test_checkpoints_by_torch(tmp_path: Path, given: str) -> None:
    root = folder(tmp_path / "zoo", "training.pt")
    told = {"activation": "tanh", "network": stated(tmp_path)}
    one = formats.load(f"torch:{root}", **{given: told[given]})["networks"]
    assert one.network == NET
    np.testing.assert_array_equal(one.vectors()[0], formats.to_vector(NET, THEIRS))


def test_averaged_weights_are_chosen(tmp_path: Path) -> None:
    root = folder(tmp_path / "zoo", "averaged.pt")
    address, options = f"torch:{root}", {"network": stated(tmp_path)}
    message = r"in each of the parts \['model', 'ema'\]\. Say which with --part NAME"
    with pytest.raises(ValueError, match=message):
        formats.list_networks(address, **options)
    for part, factor in (("model", 1), ("ema", 2)):
        one = formats.load(address, part=part, **options)["networks"]
        want = factor * formats.to_vector(NET, THEIRS)
        np.testing.assert_array_equal(one.vectors()[0], want)
    with pytest.raises(ValueError, match=r"tensors in the part 'mode', got the parts"):
        formats.list_networks(address, part="mode", **options)


def test_what_is_plain_in_a_checkpoint(tmp_path: Path) -> None:
    """Of Lightning and of schedules; nothing is made but dictionaries."""
    pairs = code({"rate": 0.5})[1:]
    lightning = "lightning_fabric.utilities.data"
    made = {
        "hyper": code(Call(Name(lightning, "AttributeDict"), ())) + pairs,
        "space": code(Call(Name("argparse", "Namespace"), ()))
        + code({"rate": 0.5})
        + b"b",
        "counts": Call(Name("collections", "Counter"), ({5: 1},)),
        "device": Call(Name("torch", "device"), ("cuda", 0)),
        "net": {"bias": tensor()},
    }
    path = write(tmp_path / "net.pt", made, np.ones(6, np.float32))
    stored = files.read_torch(path)
    assert stored.fields == {"hyper.rate": 0.5, "space.rate": 0.5}
    assert list(stored.tensors) == ["net.bias"]
    made["counts"] = Call(Name("collections", "Counter"), (3,))
    write(path, made, np.ones(6, np.float32))
    with pytest.raises(ValueError, match="expected a counter that is made of"):
        files.read_torch(path)


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.tanh(nn.Dense(3)(x))
        return nn.Dense(2)(x)


def test_train_states(tmp_path: Path) -> None:
    x = jnp.ones((1, 2))
    params = Linen().init(jax.random.key(0), x)["params"]
    state = TrainState.create(apply_fn=None, params=params, tx=optax.adam(1e-3))
    (tmp_path / "flax").mkdir()
    (tmp_path / "flax" / "a.msgpack").write_bytes(serialization.to_bytes(state))
    with ocp.StandardCheckpointer() as saver:
        saver.save(tmp_path / "orbax" / "a", state)
    for kind, name in (("msgpack", "flax"), ("orbax", "orbax")):
        address = f"{kind}:{tmp_path / name}"
        one = formats.load(address, activation="tanh")["networks"]
        assert one.network == NET
        theta = jax.tree.map(lambda leaf: leaf[0], one.thetas)
        want = Linen().apply({"params": params}, x)
        np.testing.assert_allclose(NET.apply(theta, x), np.asarray(want), rtol=1e-5)


class Dropping(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layer_0 = nnx.Linear(2, 3, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.layer_1 = nnx.Linear(3, 2, rngs=rngs)


def test_keys_of_a_dropout(tmp_path: Path) -> None:
    with ocp.StandardCheckpointer() as saver:
        saver.save(tmp_path / "a", nnx.state(Dropping(nnx.Rngs(0))))
    names = list(files.read_orbax(tmp_path / "a").tensors)
    assert any("rngs" in name for name in names)
    found = formats.list_networks(f"orbax:{tmp_path}", activation="tanh")
    assert found.listings["networks"].network == NET


def kernels(*names: str, sizes: tuple[int, int] = (3, 3)) -> dict[str, np.ndarray]:
    return {name: np.zeros(sizes, np.float32) for name in names}


NUMBER, COUNT = np.zeros((), np.float32), np.zeros((), np.int64)


@pytest.mark.parametrize(
    ("tensors", "kept"),
    [
        # A network alone is left as it is, whatever its layers are called.
        (kernels("model.0.weight"), None),
        (kernels("scaler.weight", "random_features.weight", "rng.weight"), None),
        (kernels("optimal.weight", "opt.weight", "scheduled.weight"), None),
        (kernels("a.weight") | {"temperature": NUMBER}, None),
        (kernels("model.0.weight", "head.weight"), None),
        (kernels("block_0.a.w", "block_0.b.w", "block_1.a.w", "block_1.b.w"), None),
        ({"params.w": np.zeros((2, 2)), "batch_stats.n.mean": np.zeros(2)}, None),
        # What is told of training goes.
        (kernels("net.w") | {"acc": NUMBER, "step": COUNT, "n": COUNT}, ["w"]),
        (kernels("net.w", "optim.state.0.exp_avg", "opt.state.1.exp_avg"), ["w"]),
        (kernels("state_dict.w", "optimizer_states.0.state.0.m"), ["w"]),
        (kernels("net.w") | {"callbacks.Stop{'a': 1}.best_score": NUMBER}, ["w"]),
        (kernels("state_dict.w") | {"history": np.zeros(9)}, ["w"]),
        (kernels("state.params.w", "state.opt_state.0.mu.w"), ["w"]),
        (kernels("a.w", "b.w", "optimizer.state.0.m"), ["a.w", "b.w"]),
        (kernels("a.w") | {"cuda_rng_state": np.zeros(9, np.uint8)}, ["w"]),
        (kernels("optimizer.state.0.m"), []),
    ],
)
def test_what_is_left_out(
    tensors: dict[str, np.ndarray], kept: list[str] | None
) -> None:
    got = weights_of("a.pt", tensors)
    assert list(got) == (list(tensors) if kept is None else kept)


def test_parts_in_parts() -> None:
    names = [f"state_dict.{n}.{m}.w" for n in ("net", "net_ema") for m in (0, 1)]
    message = r"the parts \['state_dict.net', 'state_dict.net_ema'\]"
    with pytest.raises(ValueError, match=message):
        weights_of("a.pt", kernels(*names))
    got = weights_of("a.pt", kernels(*names), "state_dict.net_ema")
    assert list(got) == ["0.w", "1.w"]
    assert choices(kernels(*names)) == ["state_dict.net", "state_dict.net_ema"]
    assert choices(kernels("0.w", "1.w")) == []
    deep = ".".join("a" * 500)
    assert list(weights_of("a.pt", kernels(deep))) == [deep]


def test_several_networks_are_named(tmp_path: Path) -> None:
    """Not alike, so nobody knows before they do not fit."""
    tensors = kernels("critic.0.weight", "critic.1.weight")
    tensors |= kernels("actor.0.weight", "actor.1.weight", sizes=(2, 2))
    files.write_torch(tmp_path / "a.pt", tensors)
    options = {"activation": "tanh"}
    message = r"If a part of \['critic', 'actor'\] is the network, choose it with"
    with pytest.raises(ValueError, match=message):
        formats.list_networks(f"torch:{tmp_path}", **options)
    found = formats.list_networks(f"torch:{tmp_path}", part="actor", **options)
    assert found.listings["networks"].network == nets.mlp((2, 2, 2), "tanh")


def test_advice_is_of_use(tmp_path: Path) -> None:
    """Nobody who gave a network is told to give one."""
    files.write_torch(tmp_path / "a.pt", {"a.weight": np.ones(3, np.float32)})
    with pytest.raises(ValueError, match=r"Say what the network is: --network FILE"):
        formats.list_networks(f"torch:{tmp_path}")
    options = {"network": stated(tmp_path)}
    with pytest.raises(ValueError, match="The network that is given has") as error:
        formats.list_networks(f"torch:{tmp_path}", **options)
    assert "network.json" not in str(error.value)
