import dataclasses
import io
import json

import numpy as np
import pytest
from rich.console import Console

from experiments import recipes, tables
from experiments.predict_accuracy.buckets import TEST, VALIDATION
from experiments.predict_accuracy.config import PRESETS
from experiments.predict_accuracy.progress import Bars
from qejax import models

FOLDS = 3


def test_folds_share_nothing_and_never_hold_a_test_network(buckets):
    bucket = buckets[0]
    folds = [recipes.fold_of(bucket, fold, FOLDS, 0) for fold in range(FOLDS)]
    held = np.concatenate([fold.members(VALIDATION) for fold in folds])
    assert sorted(held) == np.flatnonzero(bucket.split != TEST).tolist()
    for fold in folds:
        np.testing.assert_array_equal(fold.members(TEST), bucket.members(TEST))


@pytest.mark.parametrize(
    ("preset", "name"),
    [(preset, name) for preset, rows in recipes.RECIPES.items() for name in rows],
)
def test_every_recipe_names_what_is_there(preset, name):
    recipe = recipes.RECIPES[preset][name]
    config = dataclasses.replace(PRESETS[preset][1], **recipe.config)
    assert recipes.metanet(recipe, config).probes == (recipe.row == "with_probes")
    dataclasses.replace(models.PredictorConfig(), **recipe.choices)


def test_recipes_become_a_table(buckets, tmp_path):
    config = dataclasses.replace(PRESETS["smoke"][1], out=tmp_path)
    names = ("without_probes", "no_comparisons")
    chosen = {name: recipes.RECIPES["small_cnn_zoo"][name] for name in names}
    bars = Bars(Console(file=io.StringIO()))
    found = recipes.compare(buckets[:1], config, chosen, 2, bars)
    assert found["without_probes"]["parameters"] > found["no_comparisons"]["parameters"]
    for one in found.values():
        assert len(one["tau"]) == 2
        assert all(-1 <= tau <= 1 for tau in one["tau"])
    made = {
        "experiment": "recipes",
        "preset": "small_cnn_zoo",
        "command": "python -m experiments.recipes",
        "config": {"seed": 0, "seeds": 1},
        "versions": {"jax": "0.10"},
        "machine": {"cpus": 2},
    }
    metrics = {"recipes": found, "folds": 2, "seconds": 60.0}
    (tmp_path / "config.json").write_text(json.dumps(made))
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    tables.record(tmp_path, tmp_path / "results")
    block = "<!-- results: recipes_small_cnn_zoo -->\n<!-- end of results -->\n"
    text = tables.render(block, tmp_path / "results")
    assert "| the model without probes | no |" in text
    assert "2 folds" in text
