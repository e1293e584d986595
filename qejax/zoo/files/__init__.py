"""One file of tensors, read and written without running anything that is in it."""

from qejax.zoo.files._pickle import read_pickle as read_pickle
from qejax.zoo.files._stored import Stored as Stored
from qejax.zoo.files._torch import read_state as read_state
from qejax.zoo.files._torch import read_torch as read_torch
from qejax.zoo.files._write_pickle import write_pickle as write_pickle
from qejax.zoo.files._write_torch import write_torch as write_torch

__all__ = [
    "Stored",
    "read_pickle",
    "read_state",
    "read_torch",
    "write_pickle",
    "write_torch",
]
