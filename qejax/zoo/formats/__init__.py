"""Public zoos as `Zoo`s, without executing anything that is in them."""

from qejax.zoo.formats._dws_inr import load_dws_inr as load_dws_inr
from qejax.zoo.formats._infer import from_vector as from_vector
from qejax.zoo.formats._infer import network_of as network_of
from qejax.zoo.formats._infer import stated_network as stated_network
from qejax.zoo.formats._infer import to_vector as to_vector
from qejax.zoo.formats._nfn_siren import load_nfn_siren as load_nfn_siren
from qejax.zoo.formats._peft_files import PeftFolder as PeftFolder
from qejax.zoo.formats._peft_files import peft_network as peft_network
from qejax.zoo.formats._peft_files import peft_vector as peft_vector
from qejax.zoo.formats._peft_files import read_peft as read_peft
from qejax.zoo.formats._peft_files import write_peft as write_peft
from qejax.zoo.formats._registry import CLASSIFIERS as CLASSIFIERS
from qejax.zoo.formats._registry import FORMATS as FORMATS
from qejax.zoo.formats._registry import Format as Format
from qejax.zoo.formats._registry import complete as complete
from qejax.zoo.formats._registry import export as export
from qejax.zoo.formats._registry import files_of as files_of
from qejax.zoo.formats._registry import list_networks as list_networks
from qejax.zoo.formats._registry import load as load
from qejax.zoo.formats._small_cnn_zoo import load_small_cnn_zoo as load_small_cnn_zoo
from qejax.zoo.formats._small_transformer_zoo import (
    load_small_transformer_zoo as load_small_transformer_zoo,
)

__all__ = [
    "CLASSIFIERS",
    "FORMATS",
    "Format",
    "PeftFolder",
    "complete",
    "export",
    "files_of",
    "from_vector",
    "list_networks",
    "load",
    "load_dws_inr",
    "load_nfn_siren",
    "load_small_cnn_zoo",
    "load_small_transformer_zoo",
    "network_of",
    "peft_network",
    "peft_vector",
    "read_peft",
    "stated_network",
    "to_vector",
    "write_peft",
]
