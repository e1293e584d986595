"""Which models can be saved, and what they are built of: a new one is a new row."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from flax import nnx

from qejax import nets
from qejax._typing import Array
from qejax.models._changes import EditorConfig
from qejax.models._classifier import Classifier, ClassifierConfig
from qejax.models._config import PredictorConfig
from qejax.models._editor import Editor
from qejax.models._gauge import Gauge
from qejax.models._gauge_config import GaugeConfig
from qejax.models._mixed import MixedConfig, MixedPredictor
from qejax.models._predictor import Predictor, probe_inputs
from qejax.spaces import spec_from_dict, spec_to_dict


@dataclass(frozen=True)
class ModelKind:
    """One class of models.

    Attributes:
        model: the class.
        config: the class of its argument `config`.
        arguments: its other arguments, each an attribute of the same name.
        derived: arrays that follow from the arguments of a model, by path: they are
            not saved.
    """

    model: type[Any]
    config: type
    arguments: tuple[str, ...]
    derived: Mapping[str, Callable[[Any], Array]] = field(default_factory=dict)


def _probes(predictor: Predictor) -> Array:
    return probe_inputs(predictor.config.shape, predictor.config.probes)


KINDS: dict[str, ModelKind] = {
    kind.model.__name__: kind
    for kind in (
        ModelKind(
            Predictor,
            PredictorConfig,
            ("network", "spec", "channels", "quasi"),
            {"probes": _probes},
        ),
        ModelKind(MixedPredictor, MixedConfig, ("size", "channels")),
        ModelKind(
            Classifier,
            ClassifierConfig,
            ("network", "spec", "classes", "channels", "quasi"),
        ),
        ModelKind(Editor, EditorConfig, ("spec", "channels", "quasi")),
        ModelKind(Gauge, GaugeConfig, ("spec", "kind")),
    )
}
"""By name of the class."""


def kind_of(model: nnx.Module) -> str:
    """Returns the name of the kind of a model.

    Raises:
        ValueError: if it is none.
    """
    for name, kind in KINDS.items():
        if type(model) is kind.model:
            return name
    raise ValueError(
        f"save: expected a model of {list(KINDS)}, got {type(model).__name__}. Save "
        f"others with qejax.train.Checkpointer."
    )


def arguments_of(model: Any) -> dict[str, Any]:
    """Returns what a model is built of, as JSON holds it."""
    kind = KINDS[kind_of(model)]
    found = {name: getattr(model, name) for name in kind.arguments}
    if found.get("network") is not None:
        # The network has the spec, unless it is read as another space.
        same = found["network"].spec == found["spec"]
        found["spec"] = None if same else found["spec"]
    fields = asdict(model.config)
    written = {name: _WRITE[name](value) for name, value in found.items()}
    return written | {"config": fields}


def builder(name: str, written: Mapping[str, Any]) -> Callable[[nnx.Rngs], Any]:
    """Returns the function that builds a model of what `arguments_of` wrote.

    Args:
        name: of the kind.
        written: also after a trip to JSON.

    Raises:
        ValueError: if the arguments are not those of the kind.
    """
    kind = KINDS[name]
    names = (*kind.arguments, "config")
    if set(written) != set(names):
        raise ValueError(
            f"a {name} is built of {list(names)}, got {sorted(written)}. It was saved "
            f"by another version of qejax: use that one."
        )
    found = {key: _READ[key](written[key]) for key in kind.arguments}
    if found.get("network") is not None and found["spec"] is None:
        found["spec"] = found["network"].spec
    fields = {k: _tuples(v) for k, v in written["config"].items()}
    config = kind.config(**fields)
    return lambda rngs: kind.model(**found, config=config, rngs=rngs)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _same(value: Any) -> Any:
    return value


def _there(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else function(value)


_WRITE: dict[str, Callable[[Any], Any]] = {
    "network": _there(lambda network: network.config.to_dict()),
    "spec": _there(spec_to_dict),
    "size": asdict,
    "channels": int,
    "classes": int,
    "kind": str,
    "quasi": str,
}
"""How an argument is written."""

_READ: dict[str, Callable[[Any], Any]] = {
    "network": _there(nets.build),
    "spec": _there(spec_from_dict),
    "size": lambda sides: nets.PadSize(**sides),
    "channels": int,
    "classes": int,
    "kind": str,
    "quasi": str,
}
"""How it is read."""
