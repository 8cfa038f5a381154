"""From recorded vectors to a signed bundle, in one pure call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.mesh.bundle import sha256, sign
from services.mesh.bundle_parts import Bundle
from services.mesh.calibration import Calibration, Platt, calibrated
from services.mesh.manifest import MANIFEST_VERSION, MODEL_FORMAT, Golden, Manifest, parse
from services.mesh.trees import xgboost
from services.retraining import measures
from services.retraining.calibrate import fit_calibration
from services.retraining.dataset import Horizon, Part, Recorded, TrainingRefused, canonical_order, data_hash, split
from services.retraining.frozen import frozen_reference, seen_features
from services.retraining.train import Settings, fit, margins

# Spread over the margins of the validation part; beside them one row of missing values, which tries every default way.
GOLDEN_ROWS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What the data cannot say about a model."""

    model_version: str
    feature_set: str
    feature_names: tuple[str, ...]
    fallback_feature_names: tuple[str, ...]  # the event's own columns
    code_version: str


Task = Callable[[], Any]
Together = Callable[[Sequence[Task]], Sequence[Any]]


def in_turn(tasks: Sequence[Task]) -> list[Any]:
    """One after the other."""
    return [task() for task in tasks]


def build(
    recorded: Recorded,
    identity: Identity,
    cut_off_ms: int,
    horizon: Horizon,
    settings: Settings,
    key: Ed25519PrivateKey,
    *,
    segments: Sequence[str] | None = None,
    actions: Mapping[str, int] | None = None,
    champion: Bundle | None = None,
    together: Together = in_turn,
    lineage: Mapping[str, str | int | float] | None = None,
) -> Bundle:
    """Validate the procedure on the last matured stretch, repeat it on all matured data, sign the result.

    ``metrics`` in the manifest are those of the validated model, which learned nothing younger than one label delay
    before the validation part; average precision and AUC are honest there, calibration was fitted on the same rows.
    ``segments`` (of each row, its channel) and ``actions`` (how often each was taken) make the reference finer.
    ``champion``, verified, is measured on the same rows: on all of them, some of which it may have learned from, and
    beside the new one on those that neither has seen.
    ``together`` runs the four trainings and what is told of the data, which need nothing of one another; the longest
    come first. ``lineage`` goes among the manifest's parameters.
    Raises `TrainingRefused`.
    """
    assert recorded.rows.shape[1] == len(identity.feature_names), "rows have other columns than feature_names"
    columns = np.array([identity.feature_names.index(name) for name in identity.fallback_feature_names], dtype=np.intp)
    cohorts = split(recorded, cut_off_ms, horizon)
    # In canonical order, or the order of arrival would show in the last bits of sums and in ties.
    train, validation, whole = (
        canonical_order(recorded, part) for part in (cohorts.train, cohorts.validation, cohorts.whole)
    )
    exact = _exact(recorded, validation)
    span = (0, settings.trees)

    whole_exact = _exact(recorded, whole)
    model, tried, fallback, tried_fallback, seen, content = together(
        [
            lambda: _fitted(recorded, whole_exact, settings),
            lambda: _fitted(recorded, _exact(recorded, train), settings),
            lambda: _fitted(recorded, whole, settings, columns),
            lambda: _fitted(recorded, train, settings, columns),
            lambda: seen_features(recorded, whole_exact, segments),
            lambda: data_hash(recorded, whole, identity.feature_set),
        ]
    )
    try:
        calibration, validated, metrics = _validated(tried, *_rows(recorded, exact), span)
    except TrainingRefused:
        # Fraud has changed since what it could learn from: higher scores mean less of it. The model that is to serve
        # knows better, so it is validated by customers where it can't be by time.
        exact = _only(exact, recorded.held_out[exact.index])
        tried = _fitted(recorded, _only(whole_exact, ~recorded.held_out[whole_exact.index]), settings)
        if not (0 < int(exact.fraud.sum()) < len(exact.index)):
            raise
        calibration, validated, metrics = _validated(tried, *_rows(recorded, exact), span)
        metrics["validated_by_customers"] = 1.0
    fallback_rows, fallback_fraud = _rows(recorded, validation, columns)
    try:
        fallback_calibration, _, fallback_metrics = _validated(tried_fallback, fallback_rows, fallback_fraud, span)
    except TrainingRefused:
        # The event alone says nothing about fraud any more. A fallback has to answer all the same: the fraud share.
        fallback_calibration, fallback_metrics = _uninformed(fallback_fraud), {}

    rows, served = recorded.rows[exact.index], margins(model, recorded.rows[exact.index], span)
    judged = _scored_by(champion, rows) if champion else validated
    if champion:
        unseen = _unseen(recorded, exact, parse(champion.manifest).label_cut_off_ms, horizon)
        metrics |= _against(judged, validated, exact.fraud, unseen, horizon.frauds_min)
    metrics["low_half_fraud_share"] = measures.low_half_fraud_share(judged, exact.fraud)
    manifest = Manifest(
        manifest_version=MANIFEST_VERSION,
        model_version=identity.model_version,
        created_event_time_ms=cut_off_ms,
        feature_set=identity.feature_set,
        feature_names=identity.feature_names,
        fallback_feature_indices=tuple(columns.tolist()),
        model_format=MODEL_FORMAT,
        model_sha256=sha256(model),
        fallback_sha256=sha256(fallback),
        iteration_range=span,
        calibration=calibration,
        fallback_calibration=fallback_calibration,
        golden=_golden(rows, served, columns, model, fallback, calibration, fallback_calibration, span),
        code_version=identity.code_version,
        data_hash=content,
        label_cut_off_ms=cut_off_ms,
        rows=len(whole.index),
        frauds=int(whole.fraud.sum()),
        metrics=metrics | {f"fallback_{name}": value for name, value in fallback_metrics.items()},
        parameters=settings.parameters() | _prefixed("horizon", asdict(horizon)) | dict(lineage or {}),
        xgboost_version=str(xgboost.__version__),
        reference=frozen_reference(seen, recorded, exact, calibrated(calibration, served), validated, actions),
    )
    return sign(manifest, model, fallback, key)


def _fitted(recorded: Recorded, part: Part, settings: Settings, columns: npt.NDArray[np.intp] | None = None) -> bytes:
    rows, fraud = _rows(recorded, part, columns)
    weight = recorded.weight[part.index]
    return fit(rows, fraud, settings, None if np.all(weight == 1.0) else weight)


def _scored_by(champion: Bundle, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The champion's probabilities, from its own bundle."""
    manifest = parse(champion.manifest)
    return calibrated(manifest.calibration, margins(champion.model, rows, manifest.iteration_range))


def _unseen(recorded: Recorded, part: Part, cut_off_ms: int, horizon: Horizon) -> npt.NDArray[np.bool_]:
    """Rows of ``part`` that a model of that cut-off cannot have learned from: shape (m,)."""
    times, held_out = recorded.event_time_ms[part.index], recorded.held_out[part.index]
    unseen: npt.NDArray[np.bool_] = (times > cut_off_ms) | (held_out & (times > cut_off_ms - horizon.label_delay_ms))
    return unseen


def _against(
    champion: npt.NDArray[np.float64],
    own: npt.NDArray[np.float64],
    fraud: npt.NDArray[np.bool_],
    unseen: npt.NDArray[np.bool_],
    frauds_min: int,
) -> dict[str, float]:
    found = {
        "champion_average_precision": measures.average_precision(champion, fraud),
        "champion_brier": measures.brier(champion, fraud),
        "champion_calibration_error": measures.calibration_error(champion, fraud),
        "champion_unseen_rows": float(unseen.sum()),
    }
    if int(fraud[unseen].sum()) >= frauds_min:
        found["champion_average_precision_unseen"] = measures.average_precision(champion[unseen], fraud[unseen])
        found["own_average_precision_unseen"] = measures.average_precision(own[unseen], fraud[unseen])
    return found


def _rows(
    recorded: Recorded, part: Part, columns: npt.NDArray[np.intp] | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    rows = recorded.rows if columns is None else recorded.rows[:, columns]
    return np.ascontiguousarray(rows[part.index]), part.fraud


def _only(part: Part, chosen: npt.NDArray[np.bool_]) -> Part:
    return Part(index=part.index[chosen], fraud=part.fraud[chosen])


def _uninformed(fraud: npt.NDArray[np.bool_]) -> Calibration:
    """The fraud share, whatever the margin, as nearly as an increasing map can say it."""
    share = (float(fraud.sum()) + 1) / (len(fraud) + 2)
    return Platt(slope=1e-3, intercept=float(np.log(share / (1 - share))))


def _exact(recorded: Recorded, part: Part) -> Part:
    exact = recorded.exact[part.index]
    return Part(index=part.index[exact], fraud=part.fraud[exact])


def _validated(
    model: bytes, rows: npt.NDArray[np.float32], fraud: npt.NDArray[np.bool_], span: tuple[int, int]
) -> tuple[Calibration, npt.NDArray[np.float64], dict[str, float]]:
    """The calibration, the probabilities that it gives ``rows``, and how good those are."""
    found = margins(model, rows, span)
    calibration = fit_calibration(found, fraud)
    scores = calibrated(calibration, found)
    measured = {
        "validation_rows": float(len(rows)),
        "validation_frauds": float(fraud.sum()),
        "average_precision": measures.average_precision(scores, fraud),
        "auc_roc": measures.auc_roc(scores, fraud),
        "brier": measures.brier(scores, fraud),
        "log_loss": measures.log_loss(scores, fraud),
        "calibration_error": measures.calibration_error(scores, fraud),
    }
    return calibration, scores, measured


def _golden(
    candidates: npt.NDArray[np.float32],
    served: npt.NDArray[np.float32],
    columns: npt.NDArray[np.intp],
    model: bytes,
    fallback: bytes,
    calibration: Calibration,
    fallback_calibration: Calibration,
    span: tuple[int, int],
) -> Golden:
    """Rows at even ranks of their margins ``served``, lowest and highest included, and one of missing values."""
    ranked = np.argsort(served, kind="stable")
    picked = candidates[ranked[np.linspace(0, len(ranked) - 1, GOLDEN_ROWS).astype(np.intp)]]
    rows = np.vstack([picked, np.full((1, candidates.shape[1]), np.nan, dtype=np.float32)])
    return Golden.of(
        rows,
        calibrated(calibration, margins(model, rows, span)),
        calibrated(fallback_calibration, margins(fallback, rows[:, columns], span)),
    )


def _prefixed(prefix: str, values: dict[str, int | None]) -> dict[str, str | int | float]:
    return {f"{prefix}_{name}": "never" if value is None else value for name, value in values.items()}
