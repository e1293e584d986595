"""Many small trained networks: made from a seed, stored, read, split, augmented."""

from qejax.zoo import files as files
from qejax.zoo import formats as formats
from qejax.zoo._augment import augment as augment
from qejax.zoo._augment import augment_rows as augment_rows
from qejax.zoo._config import ZooConfig as ZooConfig
from qejax.zoo._config import zoo_config_from_dict as zoo_config_from_dict
from qejax.zoo._cut import keep_accurate as keep_accurate
from qejax.zoo._fit import CASES as CASES
from qejax.zoo._fit import FitProgress as FitProgress
from qejax.zoo._fit import Signals as Signals
from qejax.zoo._fit import fit as fit
from qejax.zoo._fit_config import CONVENTIONS as CONVENTIONS
from qejax.zoo._fit_config import FitConfig as FitConfig
from qejax.zoo._fit_many import psnr_of as psnr_of
from qejax.zoo._generate import Progress as Progress
from qejax.zoo._generate import generate as generate
from qejax.zoo._import import ImportProgress as ImportProgress
from qejax.zoo._import import check_runs as check_runs
from qejax.zoo._import import import_zoo as import_zoo
from qejax.zoo._joined import joined as joined
from qejax.zoo._listing import Found as Found
from qejax.zoo._listing import Listing as Listing
from qejax.zoo._listing import Problem as Problem
from qejax.zoo._listing import Weights as Weights
from qejax.zoo._listing import apart as apart
from qejax.zoo._listing import loaded as loaded
from qejax.zoo._manifest import wrong_files as wrong_files
from qejax.zoo._mixed import MixedBatch as MixedBatch
from qejax.zoo._mixed import PaddedNormal as PaddedNormal
from qejax.zoo._mixed import mixed_batches as mixed_batches
from qejax.zoo._mixed_normal import MixedNormal as MixedNormal
from qejax.zoo._mixed_normal import mixed_normal_forms as mixed_normal_forms
from qejax.zoo._mixed_zoo import MixedZoo as MixedZoo
from qejax.zoo._mixed_zoo import in_memory_mixed as in_memory_mixed
from qejax.zoo._mixed_zoo import mixed_of as mixed_of
from qejax.zoo._mixed_zoo import read_mixed as read_mixed
from qejax.zoo._normal import NormalForm as NormalForm
from qejax.zoo._normal import normal_forms as normal_forms
from qejax.zoo._prepared import list_prepared as list_prepared
from qejax.zoo._read import Batch as Batch
from qejax.zoo._read import batches as batches
from qejax.zoo._read import buckets as buckets
from qejax.zoo._read import notes as notes
from qejax.zoo._read import read as read
from qejax.zoo._read import read_all as read_all
from qejax.zoo._read import recipe as recipe
from qejax.zoo._rendered import Rendered as Rendered
from qejax.zoo._rendered import compare_signals as compare_signals
from qejax.zoo._splits import split_digest as split_digest
from qejax.zoo._splits import split_networks as split_networks
from qejax.zoo._splits import split_runs as split_runs
from qejax.zoo._store import check_networks as check_networks
from qejax.zoo._store import store as store
from qejax.zoo._stream import Stream as Stream
from qejax.zoo._stream import stream as stream
from qejax.zoo._stream_mixed import stream_mixed as stream_mixed
from qejax.zoo._train_many import Data as Data
from qejax.zoo._whole import list_whole as list_whole
from qejax.zoo._zoo import SPLITS as SPLITS
from qejax.zoo._zoo import Zoo as Zoo
from qejax.zoo._zoo import from_vectors as from_vectors
from qejax.zoo._zoo import to_vectors as to_vectors

__all__ = [
    "CASES",
    "CONVENTIONS",
    "SPLITS",
    "Batch",
    "Data",
    "FitConfig",
    "FitProgress",
    "Found",
    "ImportProgress",
    "Listing",
    "MixedBatch",
    "MixedNormal",
    "MixedZoo",
    "NormalForm",
    "PaddedNormal",
    "Problem",
    "Progress",
    "Rendered",
    "Signals",
    "Stream",
    "Weights",
    "Zoo",
    "ZooConfig",
    "apart",
    "augment",
    "augment_rows",
    "batches",
    "buckets",
    "check_networks",
    "check_runs",
    "compare_signals",
    "files",
    "fit",
    "formats",
    "from_vectors",
    "generate",
    "import_zoo",
    "in_memory_mixed",
    "joined",
    "keep_accurate",
    "list_prepared",
    "list_whole",
    "loaded",
    "mixed_batches",
    "mixed_normal_forms",
    "mixed_of",
    "normal_forms",
    "notes",
    "psnr_of",
    "read",
    "read_all",
    "read_mixed",
    "recipe",
    "split_digest",
    "split_networks",
    "split_runs",
    "store",
    "stream",
    "stream_mixed",
    "to_vectors",
    "wrong_files",
    "zoo_config_from_dict",
]
