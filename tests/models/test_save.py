"""A trained model goes into a folder and comes back with the same bits."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from qejax import models, nets
from qejax.models import _folder
from qejax.zoo import files
from tests.layer_specs import fast_jit, random_module, randomise
from tests.registry import theta_of

NET = nets.mlp((4, 3, 3, 2))
THETA = theta_of(NET.spec, 0, "float32")
SIZE = nets.size_of(NET)
SMALL = models.PredictorConfig(
    depth=1, embed=3, hidden=3, heads=1, rank=2, carried=2, knots=(-1.0, 0.0, 1.0)
)
TELLS = models.ClassifierConfig(depth=1, waves=2, hidden=3)
FILES = ["model.json", "weights.safetensors"]
ROOT = Path(__file__).parents[2]


def predictor(precision="float32"):
    config = dataclasses.replace(SMALL, stream=1, precision=precision)
    return models.Predictor(NET.spec, 2, network=NET, config=config, rngs=nnx.Rngs(0))


def of_probes():
    """Constants random as well, and the probes as they follow from the arguments."""
    config = dataclasses.replace(SMALL, probes=2)
    model = random_module(
        lambda: models.Predictor(
            NET.spec, 0, network=NET, config=config, rngs=nnx.Rngs(0)
        )
    )
    for number, array in enumerate(model.templates["logits"].values()):
        array.set_value(randomise(array[...], number))
    model.probes.set_value(models.probe_inputs((4,), 2))
    return model


CASES = {
    "predictor": (predictor, THETA),
    "bfloat16": (lambda: predictor("bfloat16"), THETA),
    "spec alone": (
        lambda: models.Predictor(NET.spec, 2, "gauge", config=SMALL, rngs=nnx.Rngs(0)),
        THETA,
    ),
    "classifier": (
        lambda: models.Classifier(
            NET.spec, 3, 2, "canonical", config=TELLS, rngs=nnx.Rngs(0)
        ),
        THETA,
    ),
    "editor": (
        lambda: models.Editor(
            NET.spec, 2, config=models.EditorConfig(depth=1), rngs=nnx.Rngs(0)
        ),
        THETA,
    ),
    "gauge": (
        lambda: models.Gauge(
            NET.spec,
            config=models.GaugeConfig(rounds=1, hidden=3, sweeps=1),
            rngs=nnx.Rngs(0),
        ),
        THETA,
    ),
    "mixed": (
        lambda: models.MixedPredictor(
            SIZE,
            2,
            config=models.MixedConfig(depth=1, embed=3, hidden=3),
            rngs=nnx.Rngs(0),
        ),
        nets.padded(NET, THETA),
    ),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A predictor with probes, and where it lies."""
    model = of_probes()
    notes, arrays = {"row": "x"}, {"knots": np.arange(3.0)}
    place = tmp_path_factory.mktemp("saved") / "one"
    return model, models.save(model, place, notes=notes, arrays=arrays)


@pytest.fixture
def copy(saved, tmp_path):
    """A folder of the same files, to be spoiled."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in saved[1].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def rewrite(folder, **fields):
    """Changes fields of a record as one who writes files of this format would."""
    path = folder / "model.json"
    record = json.loads(path.read_text()) | fields
    path.write_text(json.dumps(record | {"sha256": _folder.digest(record)}))


def record_of(folder):
    return json.loads((folder / "model.json").read_text())


def assert_same(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.one_in(3)
def test_every_kind_comes_back_with_the_same_bits(name, tmp_path):
    make, inputs = CASES[name]
    model = random_module(make)
    again = models.load(models.save(model, tmp_path / "a" / "b"))
    graph, state = nnx.split(model)
    other, read = nnx.split(again)
    assert graph == other
    assert_same(nnx.to_pure_dict(read), nnx.to_pure_dict(state))
    run = fast_jit(lambda state, x: nnx.merge(graph, state)(x))
    expected = run(state, inputs)
    assert_same(run(read, inputs), expected)
    # A control: the parameters decide.
    zeros = jax.tree.leaves(run(jax.tree.map(jnp.zeros_like, read), inputs))
    pairs = zip(zeros, jax.tree.leaves(expected), strict=True)
    assert any(not np.array_equal(x, y) for x, y in pairs)


def test_with_and_without_64_bits_numbers_are_the_same(tmp_path):
    with jax.enable_x64(False):
        model = of_probes()
        again = models.load(models.save(model, tmp_path / "one"))
    wide = models.load(tmp_path / "one")
    for one in (again, wide):
        assert_same(
            nnx.to_pure_dict(nnx.state(one)), nnx.to_pure_dict(nnx.state(model))
        )


def test_a_process_of_its_own_has_the_same_bits(saved, tmp_path):
    model, folder = saved
    np.savez(tmp_path / "theta.npz", allow_pickle=False, **nets_flat(THETA))
    code = (
        "import sys, jax, numpy as np\n"
        "from qejax import models\n"
        "with np.load(sys.argv[2], allow_pickle=False) as file:\n"
        "    theta = {}\n"
        "    for path in file.files:\n"
        "        layer, name = path.split('/')\n"
        "        theta.setdefault(layer, {})[name] = jax.numpy.asarray(file[path])\n"
        "predictor = models.load(sys.argv[1])\n"
        "print(np.asarray(jax.jit(predictor.__call__)(theta)).tobytes().hex())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(tmp_path / "theta.npz")],
        cwd=ROOT,
        env=os.environ | {"JAX_ENABLE_X64": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.strip()
        == np.asarray(jax.jit(model.__call__)(THETA)).tobytes().hex()
    )


def nets_flat(theta):
    return {
        f"{layer}/{name}": np.asarray(x)
        for layer, row in theta.items()
        for name, x in row.items()
    }


def test_what_is_saved_is_little_and_read_by_others(saved):
    model, folder = saved
    assert sorted(path.name for path in folder.iterdir()) == FILES
    stored = files.read_safetensors(folder / "weights.safetensors").tensors
    assert "model/probes" not in stored
    numbers = sum(x.size for x in jax.tree.leaves(nnx.state(model)))
    numbers -= model.probes[...].size
    assert sum(x.size for k, x in stored.items() if "beside" not in k) == numbers
    back = models.load_saved(folder)
    assert back.notes == {"row": "x"}
    assert_same(back.arrays, {"knots": np.arange(3.0)})


def test_probes_of_another_choice_are_kept(tmp_path):
    model = of_probes()
    model.probes.set_value(2 * model.probes[...])
    again = models.load(models.save(model, tmp_path / "one"))
    assert_same(again.probes[...], model.probes[...])


def test_equal_models_give_equal_files_and_others_are_not_overwritten(
    saved, copy, tmp_path
):
    model, _ = saved
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    beside = {"notes": {"row": "x"}, "arrays": {"knots": np.arange(3.0)}}
    models.save(model, copy, **beside)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    with pytest.raises(ValueError, match="expected a new or empty folder to save"):
        models.save(model, copy)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    (tmp_path / ".copy.draft-1").mkdir()  # of a save that was killed
    models.save(model, copy, overwrite=True)
    assert models.load_saved(copy).notes == {}
    others = tmp_path / "others"
    others.mkdir()
    (others / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match=r"thesis\.tex"):
        models.save(model, others, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "others"]


def test_a_write_that_fails_leaves_what_was_there(saved, copy, monkeypatch):
    before = {path.name: path.read_bytes() for path in copy.iterdir()}

    def full(descriptor):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        models.save(saved[0], copy, overwrite=True)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


@pytest.mark.parametrize("weights", ["others", "the same"])
def test_killed_at_any_moment_a_save_leaves_the_old_model_or_the_new(
    weights, saved, copy, tmp_path, monkeypatch
):
    """What lies there before, amid and after all of its steps is one of both, whole."""
    old, notes = saved[0], {"row": "new"}
    new = predictor() if weights == "others" else old
    moments = []

    def look():
        moments.append(tmp_path / "moments" / str(len(moments)))
        shutil.copytree(copy, moments[-1])

    def watched(do):
        def looked_at(*arguments, **options):
            look()
            do(*arguments, **options)
            look()

        return looked_at

    write = _folder._write

    def write_twice(path, content, folder):
        path.write_bytes(content[: len(content) // 2])
        look()
        write(path, content, folder)

    with monkeypatch.context() as patch:
        patch.setattr(_folder, "_write", write_twice)
        for name in ("fsync", "replace", "unlink"):
            patch.setattr(os, name, watched(getattr(os, name)))
        models.save(new, copy, notes=notes, overwrite=True)
    states = [nnx.to_pure_dict(nnx.state(model)) for model in (old, new)]
    is_new = []
    for folder in moments:
        read = models.load_saved(folder)
        is_new.append(read.notes == notes)
        assert_same(nnx.to_pure_dict(nnx.state(read.model)), states[is_new[-1]])
        # The next save ends what this one began.
        models.save(new, folder, notes=notes, overwrite=True)
        assert sorted(path.name for path in folder.iterdir()) == FILES
    assert_same(nnx.to_pure_dict(nnx.state(models.load(moments[-1]))), states[True])
    assert is_new == sorted(is_new)
    assert set(is_new) == {False, True}


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_every_flipped_byte_is_seen(copy, name):
    path = copy / name
    content = path.read_bytes()
    for at in np.linspace(0, len(content) - 2, 25).astype(int).tolist():
        flipped = bytearray(content)
        flipped[at] ^= 1
        if name == "model.json" and chr(content[at]).isspace():
            continue  # no field changes
        path.write_bytes(bytes(flipped))
        with pytest.raises(ValueError, match=f"{name}: .*(Restore|Use the version)"):
            models.load(copy)


def test_a_missing_or_torn_file_is_named(copy):
    weights = copy / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=r"safetensors: the file should have \d+ byt"):
        models.load(copy)
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match="the file is damaged, expected SHA-256"):
        models.load(copy)
    weights.unlink()
    with pytest.raises(ValueError, match=r"the file is missing, expected \d+ byt"):
        models.load(copy)
    (copy / "model.json").write_text("{")
    with pytest.raises(ValueError, match=r"model\.json: expected JSON, got"):
        models.load(copy)
    (copy / "model.json").unlink()
    with pytest.raises(ValueError, match="expected the folder of a saved model"):
        models.load(copy)


def test_a_record_of_another_version_or_model_is_refused(copy):
    record = record_of(copy)
    rewrite(copy, format_version=2)
    with pytest.raises(ValueError, match="'format' and 'format_version' should be"):
        models.load(copy)
    rewrite(copy, format_version=1, kind="Oracle")
    with pytest.raises(ValueError, match="field 'kind' should be one of"):
        models.load(copy)
    rewrite(copy, kind="Predictor", arguments={"channels": 2})
    with pytest.raises(ValueError, match="a Predictor is built of"):
        models.load(copy)
    config = record["arguments"]["config"] | {"hidden": 4}
    rewrite(copy, arguments=record["arguments"] | {"config": config})
    with pytest.raises(ValueError, match=r"field 'arrays' does not fit.*shape"):
        models.load(copy)
    (copy / "model.json").write_text(json.dumps(record | {"notes": {"row": "y"}}))
    with pytest.raises(ValueError, match="should be that of the other fields"):
        models.load(copy)


def test_arrays_that_are_other_ones_are_refused(saved, copy):
    record = record_of(copy)
    derived = {"probes": record["derived"]["probes"] | {"begins": [9.0] * 8}}
    rewrite(copy, derived=derived)
    with pytest.raises(ValueError, match="'probes' should begin with"):
        models.load(copy)
    weights = copy / "weights.safetensors"
    content = weights.read_bytes().replace(b'"F32"', b'"I32"', 1)
    weights.write_bytes(content)
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    rewrite(copy, files={weights.name: entry}, derived=record["derived"])
    with pytest.raises(ValueError, match="with the header of these, got other ones"):
        models.load(copy)


def test_64_bits_are_not_read_as_32(tmp_path):
    folder = models.save(predictor("float64"), tmp_path / "one")
    with (
        jax.enable_x64(False),
        pytest.raises(ValueError, match="is of float64, got a process of float32"),
    ):
        models.load(folder)


def test_other_models_and_types_are_refused(saved, tmp_path):
    flat = models.FlatMLP(NET.spec, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="expected a model of"):
        models.save(flat, tmp_path / "one")
    with pytest.raises(ValueError, match="a file of weights has the types"):
        models.save(saved[0], tmp_path / "one", arrays={"a": np.array(["x"])})
    assert not (tmp_path / "one").exists()
