"""One file of tensors, read and written without running anything that is in it."""

from qejax.zoo.files._msgpack import read_msgpack as read_msgpack
from qejax.zoo.files._msgpack import write_msgpack as write_msgpack
from qejax.zoo.files._names import in_natural_order as in_natural_order
from qejax.zoo.files._npz import read_npz as read_npz
from qejax.zoo.files._npz import write_npz as write_npz
from qejax.zoo.files._orbax import read_orbax as read_orbax
from qejax.zoo.files._orbax import write_orbax as write_orbax
from qejax.zoo.files._pickle import read_pickle as read_pickle
from qejax.zoo.files._registry import FILES as FILES
from qejax.zoo.files._registry import FileKind as FileKind
from qejax.zoo.files._registry import find_files as find_files
from qejax.zoo.files._registry import kind_of as kind_of
from qejax.zoo.files._registry import read_file as read_file
from qejax.zoo.files._safetensors import read_safetensors as read_safetensors
from qejax.zoo.files._safetensors import (
    read_sharded_safetensors as read_sharded_safetensors,
)
from qejax.zoo.files._safetensors import write_safetensors as write_safetensors
from qejax.zoo.files._stored import Stored as Stored
from qejax.zoo.files._torch import read_state as read_state
from qejax.zoo.files._torch import read_torch as read_torch
from qejax.zoo.files._write_pickle import write_pickle as write_pickle
from qejax.zoo.files._write_torch import write_torch as write_torch

__all__ = [
    "FILES",
    "FileKind",
    "Stored",
    "find_files",
    "in_natural_order",
    "kind_of",
    "read_file",
    "read_msgpack",
    "read_npz",
    "read_orbax",
    "read_pickle",
    "read_safetensors",
    "read_sharded_safetensors",
    "read_state",
    "read_torch",
    "write_msgpack",
    "write_npz",
    "write_orbax",
    "write_pickle",
    "write_safetensors",
    "write_torch",
]
