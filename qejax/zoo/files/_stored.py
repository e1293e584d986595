"""What every file of tensors holds."""

from typing import Any, NamedTuple

import numpy as np


class Stored(NamedTuple):
    """The content of one file.

    Attributes:
        tensors: by dotted name, in the order of the file.
        fields: everything else, by dotted name: None, truth values, integers, floats,
            strings, and lists of these.
    """

    tensors: dict[str, np.ndarray]
    fields: dict[str, Any]
