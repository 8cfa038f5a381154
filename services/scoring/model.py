"""A model that answers: calibrated probabilities for a batch of vectors, from trees that never change once loaded."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.mesh.bins import FeatureBins
from services.mesh.bundle import BundleRefused, Refusal
from services.mesh.calibration import Calibration, calibrated
from services.mesh.manifest import Manifest
from services.mesh.trees import xgboost
from services.scoring.forest import Forest

BOOTSTRAP_VERSION = "bootstrap"
# Scores of one model on one row differ between processors by a last bit; more than this is another model.
GOLDEN_DIFFERENCE_MAX = 1e-6
# rows x trees x levels up to which walking the flat arrays beats one call of xgboost (about 64 rows of 100 trees,
# depth 3: 111 us against 178); measured by loadtests/scoring_cost.py.
FOREST_STEPS_MAX = 20_000


class Scores(Protocol):
    """What the handler needs of a model, trained or not."""

    @property
    def version(self) -> str:
        """The ``model_version`` recorded on every event."""

    def score(self, rows: npt.NDArray[np.float32], fallback_mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """One probability a row. rows: float32, shape (n, f); fallback_mask: bool, shape (n,). Returns float64 (n,)."""

    def contributions(
        self, rows: npt.NDArray[np.float32], fallback_mask: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float32]:
        """Log-odds by feature, float32, shape (n, f + 1), the last column being the same for every row (the bias)."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The columns of a row."""

    @property
    def reference_bins(self) -> FeatureBins | None:
        """The bins that features are counted in; None: it has no reference."""


class Scorer:
    """A verified bundle, loaded. Nothing of it changes after construction; a swap replaces the whole object."""

    __slots__ = ("_fallback", "_fallback_columns", "_features", "_model", "manifest", "reference_bins")

    def __init__(self, manifest: Manifest, model: bytes, fallback: bytes) -> None:
        """``model``, ``fallback``: UBJSON that `verify` has passed and `load_on_probation` has tried.

        Raises `BundleRefused` when they do not load, are of another shape, or miss their golden scores.
        """
        self.manifest = manifest
        self.reference_bins: FeatureBins | None = None if manifest.reference is None else manifest.reference.bins
        self._features = len(manifest.feature_names)
        self._fallback_columns = np.array(manifest.fallback_feature_indices, dtype=np.intp)
        rows = manifest.golden.rows(self._features)
        spare = rows[:, self._fallback_columns]
        span = manifest.iteration_range
        self._model = _Trees("model", model, self._features, span, manifest.calibration, rows)
        self._fallback = _Trees("fallback", fallback, spare.shape[1], span, manifest.fallback_calibration, spare)
        self._check_golden(rows)

    @property
    def version(self) -> str:
        """The manifest's ``model_version``."""
        return self.manifest.model_version

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The columns of a row, in order."""
        return self.manifest.feature_names

    def score(self, rows: npt.NDArray[np.float32], fallback_mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """Calibrated probabilities, float64, shape (n,).

        rows: float32, shape (n, f), NaN = missing, columns in manifest order. fallback_mask: bool, shape (n,), true
        where only the event is known: such a row is scored by the fallback model from the event's own columns. The
        score of a row is the same to the bit in every batch.
        """
        assert rows.ndim == 2, f"rows of shape {rows.shape}, (n, {self._features}) expected"
        assert rows.shape[1] == self._features, f"{rows.shape[1]} columns, {self._features} expected"
        assert rows.dtype == np.float32, f"rows of {rows.dtype}, float32 expected"
        if not fallback_mask.any():
            return self._model.probabilities(rows)
        scores = np.empty(len(rows), dtype=np.float64)
        known = ~fallback_mask
        scores[known] = self._model.probabilities(rows[known])
        scores[fallback_mask] = self._fallback.probabilities(rows[fallback_mask][:, self._fallback_columns])
        return scores

    def contributions(
        self, rows: npt.NDArray[np.float32], fallback_mask: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float32]:
        """Exact TreeSHAP (Lundberg et al. 2020) in log-odds before calibration: float32, shape (n, f + 1).

        The last column is the bias; a row sums to its margin. Columns that the fallback model does not read are zero
        where it scored.
        """
        parts = np.zeros((len(rows), self._features + 1), dtype=np.float32)
        known = ~fallback_mask
        if known.any():
            parts[known] = self._model.contributions(rows[known])
        if fallback_mask.any():
            spare = np.append(self._fallback_columns, self._features)
            parts[np.ix_(fallback_mask, spare)] = self._fallback.contributions(
                rows[fallback_mask][:, self._fallback_columns]
            )
        return parts

    def _check_golden(self, rows: npt.NDArray[np.float32]) -> None:
        golden = self.manifest.golden
        for name, expected, mask in (
            ("model", golden.scores, np.zeros(len(rows), dtype=np.bool_)),
            ("fallback", golden.fallback_scores, np.ones(len(rows), dtype=np.bool_)),
        ):
            difference = float(np.abs(self.score(rows, mask) - np.array(expected)).max())
            if not difference <= GOLDEN_DIFFERENCE_MAX:
                raise BundleRefused(
                    Refusal.GOLDEN_MISMATCH,
                    f"{name} of {self.version} misses its golden scores by {difference:.3g}, "
                    f"at most {GOLDEN_DIFFERENCE_MAX} is rounding",
                )


class BootstrapScorer:
    """Before the first model: every event gets the declared prior, and the policy decides by its rules alone."""

    __slots__ = ("feature_names", "prior", "reference_bins")

    def __init__(self, prior: float, feature_names: tuple[str, ...]) -> None:
        assert 0.0 <= prior <= 1.0, f"prior={prior} must lie in [0, 1]"
        self.reference_bins: FeatureBins | None = None
        self.prior = prior
        self.feature_names = feature_names

    @property
    def version(self) -> str:
        """``bootstrap``."""
        return BOOTSTRAP_VERSION

    def score(self, rows: npt.NDArray[np.float32], fallback_mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """The prior, once a row; knows neither rows nor mask."""
        assert len(rows) == len(fallback_mask)
        return np.full(len(rows), self.prior, dtype=np.float64)

    def contributions(
        self, rows: npt.NDArray[np.float32], fallback_mask: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float32]:
        """Zeros: no feature had a say."""
        assert len(rows) == len(fallback_mask)
        return np.zeros((len(rows), len(self.feature_names) + 1), dtype=np.float32)


class _Trees:
    """One booster with its calibration, and its flat twin when that agrees with it to the bit."""

    __slots__ = ("booster", "calibration", "features", "forest", "iteration_range")

    def __init__(
        self,
        name: str,
        content: bytes,
        features: int,
        iteration_range: tuple[int, int],
        calibration: Calibration,
        golden_rows: npt.NDArray[np.float32],
    ) -> None:
        self.booster = _loaded(name, content, features, iteration_range)
        self.calibration = calibration
        self.features = features
        self.iteration_range = iteration_range
        self.forest = Forest.of(self.booster, iteration_range)
        whole = np.ascontiguousarray(golden_rows[~np.isnan(golden_rows).any(axis=1)])
        if self.forest and not np.array_equal(self.forest.margins(whole), self._margins_by_xgboost(whole)):
            self.forest = None  # another release adds up differently: the public call is right by definition

    def probabilities(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """rows: float32, shape (n, f), NaN = missing. Returns float64, shape (n,)."""
        if not len(rows):
            return np.empty(0, dtype=np.float64)
        return calibrated(self.calibration, self.margins(np.ascontiguousarray(rows)))

    def margins(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Log-odds by the faster of two ways that agree to the bit."""
        forest = self.forest
        few = forest is not None and len(rows) * forest.trees * forest.levels <= FOREST_STEPS_MAX
        if forest is not None and few and not np.isnan(rows).any():
            return forest.margins(rows)
        return self._margins_by_xgboost(rows)

    def contributions(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """TreeSHAP of rows, shape (n, f): float32, shape (n, f + 1)."""
        # xgboost refuses infinities here, though it scores them: the largest float takes the same side of every split.
        limit = np.finfo(np.float32).max
        matrix = xgboost.DMatrix(np.clip(rows, -limit, limit), nthread=1)
        parts: npt.NDArray[np.float32] = self.booster.predict(
            matrix, pred_contribs=True, validate_features=False, iteration_range=self.iteration_range
        )
        return parts

    def _margins_by_xgboost(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        margins: npt.NDArray[np.float32] = self.booster.inplace_predict(
            rows, predict_type="margin", validate_features=False, iteration_range=self.iteration_range
        )
        return margins


def _loaded(name: str, content: bytes, features: int, iteration_range: tuple[int, int]) -> xgboost.Booster:
    booster = xgboost.Booster()
    try:
        booster.load_model(bytearray(content))
        # One thread: with more, a noisy neighbour makes one call in a hundred take 150 ms instead of 0.4.
        booster.set_param({"nthread": 1})
        found, rounds = booster.num_features(), booster.num_boosted_rounds()
    except (xgboost.core.XGBoostError, ValueError) as error:
        # "[time] file:line: cause", then a C++ stack
        cause = str(error).strip().splitlines()[0].partition(": ")[2].rstrip(" :")
        raise BundleRefused(Refusal.UNLOADABLE, f"{name}: xgboost {xgboost.__version__} says: {cause}") from None
    if found != features:
        raise BundleRefused(Refusal.UNLOADABLE, f"{name} reads {found} features, the manifest says {features}")
    if rounds < iteration_range[1]:
        raise BundleRefused(
            Refusal.UNLOADABLE,
            f"{name} holds {rounds} trees, the manifest's iteration_range is {list(iteration_range)}",
        )
    return booster
