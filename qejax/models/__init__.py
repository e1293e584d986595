"""Whole metanetworks: predictors, their statistics, and the baselines."""

from qejax.models._calibration import Link as Link
from qejax.models._calibration import NormalScores as NormalScores
from qejax.models._calibration import fit_link as fit_link
from qejax.models._calibration import fit_scores as fit_scores
from qejax.models._changes import EditorConfig as EditorConfig
from qejax.models._classifier import Classifier as Classifier
from qejax.models._classifier import ClassifierConfig as ClassifierConfig
from qejax.models._config import PredictorConfig as PredictorConfig
from qejax.models._config import input_shape as input_shape
from qejax.models._editor import Editing as Editing
from qejax.models._editor import Editor as Editor
from qejax.models._editor import prepare_edits as prepare_edits
from qejax.models._exact import SKETCHES as SKETCHES
from qejax.models._exact import STATISTICS as STATISTICS
from qejax.models._exact import Subject as Subject
from qejax.models._exact import readings_of as readings_of
from qejax.models._flat_mlp import FlatMLP as FlatMLP
from qejax.models._gauge import Gauge as Gauge
from qejax.models._gauge import Start as Start
from qejax.models._gauge_config import GaugeConfig as GaugeConfig
from qejax.models._mixed import Measured as Measured
from qejax.models._mixed import MixedConfig as MixedConfig
from qejax.models._mixed import MixedPredictor as MixedPredictor
from qejax.models._paths import Paths as Paths
from qejax.models._paths import path_statistics as path_statistics
from qejax.models._paths import path_sums as path_sums
from qejax.models._paths import receptive_field as receptive_field
from qejax.models._predictor import Predictor as Predictor
from qejax.models._predictor import measure_all as measure_all
from qejax.models._predictor import prepare_all as prepare_all
from qejax.models._predictor import probe_inputs as probe_inputs
from qejax.models._reports import alpha_gradient_report as alpha_gradient_report
from qejax.models._reports import num_parameters as num_parameters
from qejax.models._reports import sizes_for as sizes_for
from qejax.models._save import Saved as Saved
from qejax.models._save import load as load
from qejax.models._save import load_saved as load_saved
from qejax.models._save import save as save
from qejax.models._statistics import output_statistics as output_statistics
from qejax.models._statistics import probe_statistics as probe_statistics
from qejax.models._statistics import sensitivity_statistics as sensitivity_statistics
from qejax.models._statistics import smooth_images as smooth_images
from qejax.models._templates import Template as Template
from qejax.models._templates import fit_template as fit_template
from qejax.models._trunks import TRUNKS as TRUNKS
from qejax.models._trunks import Quasi as Quasi
from qejax.spaces import canonical_statistics as canonical_statistics
from qejax.spaces import map_networks as map_networks
from qejax.spaces import raw_statistics as raw_statistics

__all__ = [
    "SKETCHES",
    "STATISTICS",
    "TRUNKS",
    "Classifier",
    "ClassifierConfig",
    "Editing",
    "Editor",
    "EditorConfig",
    "FlatMLP",
    "Gauge",
    "GaugeConfig",
    "Link",
    "Measured",
    "MixedConfig",
    "MixedPredictor",
    "NormalScores",
    "Paths",
    "Predictor",
    "PredictorConfig",
    "Quasi",
    "Saved",
    "Start",
    "Subject",
    "Template",
    "alpha_gradient_report",
    "canonical_statistics",
    "fit_link",
    "fit_scores",
    "fit_template",
    "input_shape",
    "load",
    "load_saved",
    "map_networks",
    "measure_all",
    "num_parameters",
    "output_statistics",
    "path_statistics",
    "path_sums",
    "prepare_all",
    "prepare_edits",
    "probe_inputs",
    "probe_statistics",
    "raw_statistics",
    "readings_of",
    "receptive_field",
    "save",
    "sensitivity_statistics",
    "sizes_for",
    "smooth_images",
]
