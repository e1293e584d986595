"""A full disk is named with its place, whoever notices; other errors stay theirs."""

import errno
import gc
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from qejax import nets, zoo
from qejax._disk import DiskFullError, room
from qejax.train import Checkpointer, FitConfig, fit

BIG = {"state": {"x": jnp.asarray(np.random.default_rng(0).normal(size=200_000))}}
SMALL = {"state": {"x": jnp.zeros(3)}}
# Of several writes that fail orbax tells one; the others tell a loop that is closed.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)
MATCH = r"expected room on the disk, got .* MB free now\. Make room and run the same"


@pytest.fixture
def full() -> Iterator[Any]:
    """Stands for a disk without room: no file can grow past 100 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(on: bool) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000 if on else soft, hard))

    yield limit
    limit(False)
    gc.collect()  # what is said late is said here, where nobody listens


def test_a_message_says_where_and_what_to_do(tmp_path: Path) -> None:
    place = tmp_path / "not" / "there"
    with pytest.raises(DiskFullError, match=MATCH) as caught, room(place):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.place == place
    assert str(caught.value).startswith(f"{place}: ")


@pytest.mark.parametrize("outer", [ValueError("of a thread"), RuntimeError()])
def test_what_is_behind_an_error_counts(outer: Exception, tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match=MATCH), room(tmp_path):
        raise outer from RuntimeError("write(): Disk quota exceeded [os_error 122]")


def test_other_errors_stay(tmp_path: Path) -> None:
    error = PermissionError(errno.EACCES, "Permission denied", "x")
    with pytest.raises(PermissionError) as caught, room(tmp_path):
        raise error
    assert caught.value is error
    first = DiskFullError(tmp_path, "first")
    with pytest.raises(DiskFullError, match="first") as again, room(tmp_path / "b"):
        raise first
    assert again.value is first


def save_on(place: Path, full: Any, end: Any) -> None:
    """Saves a checkpoint that there is room for, and one that there is none for."""
    with Checkpointer(place) as store:
        store.save(1, SMALL, {})
        store.wait()
        full(True)
        store.save(2, BIG, {})
        end(store)


def test_a_checkpoint_without_room_is_named_and_the_older_stays(
    tmp_path: Path, full: Any
) -> None:
    """At whatever comes next: the next save, waiting, or leaving the block."""
    ends: tuple[Any, ...] = (
        lambda store: store.save(3, SMALL, {}),
        lambda store: store.wait(),
        lambda store: None,
    )
    for number, end in enumerate(ends):
        place = tmp_path / str(number)
        with pytest.raises(DiskFullError, match=MATCH) as caught:
            save_on(place, full, end)
        full(False)
        assert caught.value.place == place
        with Checkpointer(place) as store:
            found = store.restore(SMALL)
            assert found is not None
            assert found.step == 1
            store.save(2, BIG, {})
            store.wait()
            assert store.steps() == [1, 2]


def test_what_ended_the_block_comes_first(tmp_path: Path, full: Any) -> None:
    def end(store: Checkpointer) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        save_on(tmp_path, full, end)
    (note,) = caught.value.__notes__
    assert note.startswith("And the last checkpoint could not be saved: ")
    assert "Make room" in note


def test_a_run_goes_on_when_there_is_room(tmp_path: Path, full: Any) -> None:
    data = {"x": np.random.default_rng(0).normal(size=(32, 30_000)).astype(np.float32)}
    params = {"w": jnp.zeros(30_000, jnp.float32)}

    def loss(params: Any, batch: Any, key: Any) -> Any:
        return jnp.mean((batch["x"] @ params["w"] - 1.0) ** 2), {}

    def run(out: Path) -> Any:
        config = FitConfig(steps=20, batch_size=8, eval_every=10)
        options: dict[str, Any] = {"optimizer": optax.adam(1e-3), "save_seconds": 0.0}
        return fit(loss, params, data, config, out=out, **options).params["w"]

    full(True)
    with pytest.raises(DiskFullError, match=MATCH):
        run(tmp_path / "a")
    full(False)
    np.testing.assert_array_equal(run(tmp_path / "a"), run(tmp_path / "b"))


def test_a_zoo_is_named_too(tmp_path: Path, full: Any) -> None:
    net = nets.mlp((64, 64, 10))
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(40, net.spec.num_parameters)).astype(np.float32)
    made = zoo.Zoo(
        network=net,
        thetas=zoo.from_vectors(net.spec, vectors),
        labels={"test_accuracy": np.full(40, 0.5, np.float32)},
        hyper={"step": np.arange(40)},
        split=zoo.split_networks(40),
        source="drawn",
        ids=np.array([f"net_{n}" for n in range(40)]),
    )
    full(True)
    with pytest.raises(DiskFullError, match=MATCH) as caught:
        zoo.store(tmp_path / "zoo", {"mlp": made})
    assert "array_record" in str(caught.value)
    assert not list(tmp_path.iterdir())
    full(False)
    zoo.store(tmp_path / "zoo", {"mlp": made})
