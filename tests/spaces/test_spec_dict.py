"""A weight space goes to JSON and back."""

import json

import pytest

from experiments.architectures import MLPS_AND_CNNS
from qejax import nets, spaces
from tests.registry import TRANSFORMERS

ROWS = {**MLPS_AND_CNNS, **TRANSFORMERS}


@pytest.mark.parametrize("name", ROWS)
def test_every_spec_comes_back_from_json(name):
    spec = ROWS[name].net.spec
    text = json.dumps(spaces.spec_to_dict(spec))
    assert spaces.spec_from_dict(json.loads(text)) == spec


def test_what_is_no_spec_is_refused():
    values = spaces.spec_to_dict(nets.mlp((2, 3, 2)).spec)
    del values["shifts"]
    with pytest.raises(ValueError, match="expected fields as spec_to_dict writes"):
        spaces.spec_from_dict(values)
