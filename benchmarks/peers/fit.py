"""Training of the PyTorch peers with the published recipes, and their checks.

By default the recipe for accuracies, the one of both papers: Adam 1e-3, batch 8, 50
epochs, binary cross entropy, the epoch with the best validation Kendall tau, test
networks read once.

Source:
    Zhou et al. 2023, arXiv:2302.14040; Tran et al. 2024, arXiv:2409.11697.
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy

from benchmarks.peers.zoo import Split, Zoo, rewire

SCALES = (1e1, 1e4)  # test networks are also read after scaling by U[1, high]
EVALUATION_BATCH = 64
REWIRE_SEED = 1


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a peer is trained.

    Attributes:
        batch: networks per step; a last, smaller batch is kept.
        epochs: passes over the training networks.
        learning_rate: of Adam, at its highest.
        warmup: share of the steps in which it rises to that, linearly.
        decay: whether it falls to zero in the end, as a cosine.
    """

    batch: int = 8
    epochs: int = 50
    learning_rate: float = 1e-3
    warmup: float = 0.0
    decay: bool = False

    def num_steps(self, num_networks: int) -> int:
        """Steps of all epochs."""
        return self.epochs * math.ceil(num_networks / self.batch)

    def share(self, step: int, num_steps: int) -> float:
        """Share of the learning rate that a step gets."""
        rising = min(1.0, (step + 1) / max(1.0, self.warmup * num_steps))
        if not self.decay:
            return rising
        return rising * 0.5 * (1.0 + math.cos(math.pi * step / num_steps))


class Tensors:
    """A zoo as PyTorch tensors that share its memory."""

    def __init__(self, zoo: Zoo) -> None:
        self.weights = [torch.from_numpy(w) for w in zoo.weights]
        self.biases = [torch.from_numpy(b) for b in zoo.biases]
        self.labels = torch.from_numpy(zoo.labels)

    def batch(self, rows: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Weights, biases and labels of the networks in `rows`."""
        return (
            [w[rows] for w in self.weights],
            [b[rows] for b in self.biases],
            self.labels[rows],
        )


def num_parameters(model: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def training_step(
    model: nn.Module,
    learning_rate: float,
    loss_of: Callable[[Tensor, Tensor], Tensor] = binary_cross_entropy,
    share: Callable[[int], float] | None = None,
) -> Callable[[list[Tensor], list[Tensor], Tensor], Tensor]:
    """One whole step: forward, backward, Adam update. Returns the loss before it.

    Args:
        model: trained in place.
        learning_rate: of Adam.
        loss_of: of answers and labels.
        share: of the learning rate, by the number of the step; all of it by default.
    """
    # The fused update gives the same weights as the default one and is the faster.
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    schedule = share and torch.optim.lr_scheduler.LambdaLR(optimizer, share)

    def step(weights: list[Tensor], biases: list[Tensor], labels: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model(weights, biases), labels)
        loss.backward()
        optimizer.step()
        if schedule:
            schedule.step()
        return loss.detach()

    return step


@torch.no_grad()
def predict(model: nn.Module, zoo: Zoo) -> np.ndarray:
    """What the model answers, `[N, ...]`, without dropout."""
    training = model.training
    model.eval()
    tensors = Tensors(zoo)
    parts = torch.arange(len(zoo.labels)).split(EVALUATION_BATCH)
    answers = torch.cat([model(*tensors.batch(rows)[:2]) for rows in parts])
    model.train(training)
    return answers.numpy()


def kendall_tau(model: nn.Module, zoo: Zoo) -> float:
    """Kendall tau-b of predictions and accuracies; NaN if all predictions are equal."""
    tau, _ = kendalltau(predict(model, zoo), zoo.labels)
    return float(tau)


def check_invariance(model: nn.Module, zoo: Zoo, high: float = 1.0) -> float:
    """Asserts in float64 that functionally equivalent networks get equal answers.

    Args:
        model: left as it was.
        zoo: networks to try, at least two.
        high: scales are drawn from U[1, high]; 1 permutes only.

    Returns:
        The largest change, relative to the spread over unrelated networks.

    Raises:
        AssertionError: if the change exceeds 1e-10, or the answer hardly depends on
            the network, so that its invariance would mean nothing.
    """
    model = copy.deepcopy(model).double()
    zoo = zoo.map(lambda x: x.astype(np.float64))
    answers = predict(model, zoo)
    moved = predict(model, rewire(zoo, np.random.default_rng(REWIRE_SEED), high))
    spread = float(np.std(answers, axis=0).mean())
    assert spread > 1e-6, f"answers vary by {spread:.1e} only over unrelated networks"
    gap = float(np.abs(moved - answers).max()) / spread
    assert gap <= 1e-10, f"an equivalent network moved the answer by {gap:.1e} spreads"
    return gap


class Training(NamedTuple):
    """What happened, epoch by epoch.

    Attributes:
        losses: mean over the steps of the epoch.
        scores: on the validation networks, after the epoch.
        best: the epoch with the best score; -1 if no score is a number.
        seconds: of all of it.
    """

    losses: list[float]
    scores: list[float]
    best: int
    seconds: float


def train(
    model: nn.Module,
    zoo: Zoo,
    recipe: Recipe,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    score_of: Callable[[nn.Module], float],
    log: Callable[[str], None],
) -> Training:
    """Trains a model, and leaves it as it was after its best epoch.

    Args:
        model: trained in place.
        zoo: the training networks.
        recipe: of the training.
        loss_of: of answers and labels.
        score_of: what the best epoch has most of.
        log: called with one line an epoch.
    """
    num_steps = recipe.num_steps(len(zoo.labels))
    step = training_step(
        model, recipe.learning_rate, loss_of, lambda i: recipe.share(i, num_steps)
    )
    tensors = Tensors(zoo)
    scores: list[float] = []
    losses: list[float] = []
    best, best_state = -1, copy.deepcopy(model.state_dict())
    start = time.perf_counter()
    for epoch in range(recipe.epochs):
        order = torch.randperm(len(zoo.labels)).split(recipe.batch)
        epoch_losses = [float(step(*tensors.batch(rows))) for rows in order]
        losses.append(float(np.mean(epoch_losses)))
        scores.append(score_of(model))
        # A NaN compares false: such an epoch is never chosen.
        if scores[-1] > (scores[best] if best >= 0 else -np.inf):
            best, best_state = epoch, copy.deepcopy(model.state_dict())
        log(f"epoch {epoch} loss {losses[-1]:.4f} validation {scores[-1]:.4f}")
    seconds = time.perf_counter() - start
    model.load_state_dict(best_state)
    return Training(losses, scores, best, seconds)


def fit(
    build: Callable[[Zoo], nn.Module],
    zoo: Zoo,
    split: Split,
    seed: int,
    recipe: Recipe,
    log: Callable[[str], None] = print,
) -> dict[str, object]:
    """Trains one peer once and reads the test networks once, at its best epoch.

    Args:
        build: makes the model from the training networks.
        zoo: all networks.
        split: rows of each part.
        seed: of the initial weights and of the order of the networks.
        recipe: of the training.
        log: called with one line an epoch.

    Returns:
        A JSON record. `test_tau` is None if no epoch had a validation tau, that is,
        every prediction was the same.
    """
    torch.manual_seed(seed)
    training, val, test = (zoo.take(rows) for rows in split)
    model = build(training)
    done = train(
        model,
        training,
        recipe,
        binary_cross_entropy,
        lambda model: kendall_tau(model, val),
        lambda line: log(f"seed {seed} {line}"),
    )
    scaled = {
        f"{high:.0e}".replace("+0", ""): _number(
            kendall_tau(model, rewire(test, np.random.default_rng(REWIRE_SEED), high))
        )
        for high in SCALES
    }
    return {
        "seed": seed,
        "recipe": asdict(recipe),
        "parameters": num_parameters(model),
        "best_epoch": done.best,
        "val_tau": [_number(tau) for tau in done.scores],
        "train_loss": done.losses,
        "test_tau": _number(kendall_tau(model, test)) if done.best >= 0 else None,
        "test_tau_scaled": scaled,
        "train_seconds": round(done.seconds, 1),
    }


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return value if np.isfinite(value) else None
