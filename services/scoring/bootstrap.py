"""The declared model of before the first model."""

from __future__ import annotations

from importlib.resources import files

import yaml

from services.mesh.errors import Fatal
from services.mesh.feature_set import FeatureSetPin
from services.scoring.model import BootstrapScorer

DECLARED = "payments/bootstrap.yaml"


def declared_bootstrap(features: FeatureSetPin) -> BootstrapScorer:
    """The scorer that ``bootstrap.yaml`` declares; Fatal when its prior is no probability."""
    declared = yaml.safe_load(files("schemas").joinpath(DECLARED).read_text())
    prior = declared.get("prior") if isinstance(declared, dict) else None
    if not isinstance(prior, float) or not 0.0 <= prior <= 1.0:
        raise Fatal(f"schemas/{DECLARED}: prior={prior!r}: must be a probability, such as 0.005")
    return BootstrapScorer(prior, features.names)
