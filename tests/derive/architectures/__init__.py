"""Architectures of others as small Flax modules, one row each."""

from tests.derive.architectures.architecture import Architecture as Architecture
from tests.derive.architectures.architecture import apply_of as apply_of
from tests.derive.architectures.architecture import variables_of as variables_of
from tests.derive.architectures.convolutional import CONVOLUTIONAL
from tests.derive.architectures.generative import GENERATIVE
from tests.derive.architectures.language import LANGUAGE
from tests.derive.architectures.others import OTHERS
from tests.derive.architectures.recurrent import RECURRENT
from tests.derive.architectures.transformers import TRANSFORMERS
from tests.derive.architectures.vision import VISION

ARCHITECTURES: dict[str, Architecture] = {
    **VISION,
    **CONVOLUTIONAL,
    **LANGUAGE,
    **TRANSFORMERS,
    **RECURRENT,
    **GENERATIVE,
    **OTHERS,
}
"""Every row by its name."""
