"""What a file of tensors holds."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

NO_FIELDS: Mapping[str, Any] = MappingProxyType({})
"""Of a file that holds tensors only."""


class Stored(NamedTuple):
    """What a file of tensors holds, by dotted name.

    Attributes:
        tensors: by dotted name, in the order of the file.
        fields: everything else, by dotted name: None, bool, int, float, str and lists
            of these.
    """

    tensors: dict[str, np.ndarray]
    fields: dict[str, Any]
