"""Training of one peer that classifies coordinate networks.

Adam, batch 32, the learning rate rising in the first twentieth of the steps, cross
entropy, the epoch with the best validation accuracy.

Source:
    Zhou et al. 2023, arXiv:2302.14040.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.harness import Record
from benchmarks.peers.fit import (
    Recipe,
    check_invariance,
    num_parameters,
    predict,
    train,
)
from benchmarks.peers.nfn_inr import NfnClassifier, Options
from benchmarks.peers.nfn_stack import Layer
from benchmarks.peers.zoo import Zoo

NUM_CLASSES = 10
CHECKED = 32  # networks that are permuted before the training


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A model and how it is trained.

    Attributes:
        options: of the model.
        recipe: of the training.
    """

    options: Options
    recipe: Recipe

    def changed(self, name: str, value: object) -> "Trial":
        """The same with another value of one field of either."""
        if name in {field.name for field in fields(Options)}:
            return replace(self, options=replace(self.options, **{name: value}))
        return replace(self, recipe=replace(self.recipe, **{name: value}))


START = Trial(
    options=Options(),
    recipe=Recipe(batch=32, epochs=8, learning_rate=1e-3, warmup=0.05),
)
"""Where the choice of settings begins."""


def accuracy(model: nn.Module, zoo: Zoo) -> float:
    """Share of the networks whose class has the highest score."""
    return float(np.mean(predict(model, zoo).argmax(axis=-1) == zoo.labels))


def fit(
    layer: Layer,
    training: Zoo,
    val: Zoo,
    test: Zoo | None,
    trial: Trial,
    seed: int,
    log: Callable[[str], None],
) -> Record:
    """Trains one peer once and reads the test networks once, at its best epoch.

    Args:
        layer: of the package.
        training: what it learns from.
        val: what its epoch is chosen by.
        test: what is read at the end; None in a search.
        trial: the model and its recipe.
        seed: of the initial weights, dropout and the order of the networks.
        log: called with one line an epoch.

    Raises:
        AssertionError: if the untrained model is fooled by permuted hidden units.
    """
    torch.manual_seed(seed)
    model = NfnClassifier(training, layer, NUM_CLASSES, trial.options)
    gap = check_invariance(model, training.take(slice(CHECKED)))
    done = train(
        model,
        training,
        trial.recipe,
        cross_entropy,
        lambda model: accuracy(model, val),
        log,
    )
    record = {
        "seed": seed,
        **asdict(trial),
        "parameters": num_parameters(model),
        "invariance_gap": gap,
        "steps": trial.recipe.num_steps(len(training.labels)),
        "best_epoch": done.best,
        "val_accuracy": done.scores,
        "train_loss": done.losses,
        "train_seconds": round(done.seconds, 1),
    }
    if test is not None:
        record["test_accuracy"] = accuracy(model, test)
    return record
