"""Writes the fixtures beside it; run by hand, see `fixtures/README.md`.

Everything is written by the software that people write such files with, and `numbers`
says what must be read.
"""

import argparse
import collections
import datetime
import importlib
import io
import pickle
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FIXTURES = Path(__file__).parent / "fixtures"


def numbers(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    """0, 1, 2 and so on, in parts of 8."""
    return (np.arange(np.prod(shape)).reshape(shape) / 8).astype(dtype)


SAMPLER = "experiments.cnn_generalization.dataset.cnn_sampler"


@dataclass(frozen=True)
class CNNConfig:
    """The class whose instances are in checkpoints of the CNN Wild Park."""

    n_layers: int
    n_classes: int
    channels: list[int]
    kernel_size: list[int]
    stride: list[int]
    padding: list[int]
    residual: list[int]
    activation: list[str]


CONFIG = {
    "n_layers": 2,
    "n_classes": 3,
    "channels": [3, 4, 8],
    "kernel_size": [3, 5],
    "stride": [1, 1],
    "padding": [1, 2],
    "residual": [-1, -1],
    "activation": ["relu", "gelu"],
}

AUGMENTED = {
    "weights_augmented": [numbers(2, 2, 1, 3, 3), numbers(2, 3, 2)],
    "biases_augmented": [numbers(2, 2), numbers(2, 3)],
    "accuracy_test_augmented": [0.25, 0.5],
}


def with_numpy(name: str) -> None:
    """Plain pickles of arrays, contiguous and transposed, and of their numbers."""
    arrays = {
        "fortran": np.asfortranarray(numbers(2, 3)),
        "big": numbers(3, dtype=">f8"),
        "whole": [numbers(4, dtype=kind) for kind in ("i8", "u1", "?")],
        "number": np.float32(0.5),
        "count": np.int64(-7),
        "yes": np.bool_(True),
        "empty": numbers(0, 2),
    }
    for protocol in (2, 3, 4, 5):
        path = FIXTURES / f"{name}_{protocol}.pickle"
        path.write_bytes(pickle.dumps(AUGMENTED | {"more": arrays}, protocol))


def configured() -> Iterator[Any]:
    """The configuration under the name that it has in the zoo, for a while."""
    module = types.ModuleType(SAMPLER)
    CNNConfig.__module__, module.__dict__["CNNConfig"] = SAMPLER, CNNConfig
    sys.modules[SAMPLER] = module
    yield CNNConfig(**CONFIG)
    del sys.modules[SAMPLER]


def with_torch() -> None:
    """Checkpoints in both formats, of a run, and tensors in a plain pickle."""
    torch = importlib.import_module("torch")
    omega = importlib.import_module("omegaconf").OmegaConf

    def tensor(*shape: int, dtype: Any = np.float32) -> Any:
        return torch.from_numpy(numbers(*shape, dtype=dtype))

    def state() -> Any:
        net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Linear(2, 3))
        torch.nn.utils.vector_to_parameters(tensor(29), net.parameters())
        return net, net.state_dict()

    shared = tensor(12)
    kinds = {
        "views": [shared.view(3, 4).T, shared[3:5], shared[:1].expand(2, 2)],
        "half": tensor(3).half(),
        "bfloat16": tensor(3).bfloat16(),
        "double": tensor(3, dtype=np.float64),
        "long": torch.arange(3),
        "bool": torch.tensor([True, False]),
        "scalar": torch.tensor(2.5),
        "parameter": torch.nn.Parameter(tensor(2)),
        "epoch": 3,
    }
    net, weights = state()
    for name, new in (("zip", True), ("old", False)):
        path = FIXTURES / f"torch_{name}.pt"
        saved = {"model": weights, "kinds": kinds}
        torch.save(saved, path, _use_new_zipfile_serialization=new)
    torch.save(weights, FIXTURES / "checkpoints")  # no suffix, as in modelzoos.cc
    path = FIXTURES / "torch_tensors.pickle"
    path.write_bytes(pickle.dumps({"a": [tensor(2, 3), shared[3:5]], "b": 0.5}, 4))

    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    net[1](torch.ones(1, 2)).sum().backward()
    optimizer.step()
    torch.nn.utils.vector_to_parameters(tensor(29), net.parameters())
    for config in configured():
        run = {"model": config, "root": Path("data"), "lr": 0.01}
        result = {"test/acc": 0.75, "done": False, "config": run}
        result |= {"date": datetime.datetime(2024, 1, 2), "time": np.float64(1.5)}
        saved = {
            "model": net.state_dict(),
            "optimizer": optimizer.state_dict(),
            "config": omega.create(run).model,
            "iteration": 4,
            "last_result": result,
        }
        torch.save(saved, FIXTURES / "wild_park.pt")
        content = io.BytesIO()
        torch.save(saved | {"config": config}, content)
        (FIXTURES / "wild_park_plain.pt").write_bytes(content.getvalue())


def with_training() -> None:
    """Checkpoints that training goes on from, with and without averaged weights."""
    torch = importlib.import_module("torch")
    net = torch.nn.Sequential(
        torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2)
    )
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    torch.nn.utils.vector_to_parameters(torch.from_numpy(numbers(17)), net.parameters())
    saved = {
        "epoch": 3,
        "model_state_dict": net.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "scheduler": {"milestones": collections.Counter([5, 9])},
        "loss": torch.tensor(0.5),
        "rng_state": torch.get_rng_state()[:8].clone(),
        "args": argparse.Namespace(lr=0.125, device=torch.device("cpu"), layers=[3]),
    }
    torch.save(saved, FIXTURES / "training.pt")
    averaged = {name: 2 * x for name, x in net.state_dict().items()}
    torch.save({"model": net.state_dict(), "ema": averaged}, FIXTURES / "averaged.pt")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("software", choices=["numpy", "torch", "training"])
    match parser.parse_args().software:
        case "torch":
            with_torch()
        case "training":
            with_training()
        case _:
            with_numpy(f"numpy{np.__version__.split('.')[0]}")
