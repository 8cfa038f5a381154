"""The features as they are declared: what this version of the code computes."""

from __future__ import annotations

from importlib.resources import files

from services.features.definitions import FeatureSet, load_feature_set

DECLARED = "payments/features.yaml"


def declared_features() -> FeatureSet:
    """The feature set of this code."""
    return load_feature_set(files("schemas").joinpath(DECLARED).read_text(), f"schemas/{DECLARED}")
