"""What a model says about itself: every field that scoring needs to trust it and a person needs to explain it.

The manifest is canonical JSON (sorted keys, no spaces, shortest floats): one value has one spelling, so the signature
covers the value and not merely some bytes.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import orjson

from services.mesh.calibration import Calibration, Platt, Points, flaw
from services.mesh.reference import Reference, ReferenceFlaw, from_plain, to_plain

MANIFEST_VERSION = 2  # 2: reference
MODEL_FORMAT = "ubj"
# 25 features need 3; a thousand keep the vector's record, the golden rows and SHAP within their budgets.
FEATURES_MAX = 1_000
GOLDEN_ROWS_MAX = 64

T = TypeVar("T")


class ManifestError(ValueError):
    """The manifest is not one; the message names the field, its value and what is expected."""


class UnknownManifestVersionError(ManifestError):
    """A manifest of a layout this program does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Rows with the scores the trainer got for them: what a copy of the model must answer before it may serve."""

    rows_base64: str  # float32 little endian, row by row, in the order of feature_names
    scores: tuple[float, ...]  # calibrated, of the model
    fallback_scores: tuple[float, ...]  # calibrated, of the fallback model

    @staticmethod
    def of(
        rows: npt.NDArray[np.float32], scores: npt.NDArray[np.float64], fallback_scores: npt.NDArray[np.float64]
    ) -> Golden:
        """Pack rows (float32, shape (k, f)) and their scores (float64, shape (k,))."""
        packed = base64.b64encode(np.ascontiguousarray(rows, dtype="<f4").tobytes()).decode("ascii")
        return Golden(
            rows_base64=packed, scores=tuple(scores.tolist()), fallback_scores=tuple(fallback_scores.tolist())
        )

    def rows(self, features: int) -> npt.NDArray[np.float32]:
        """The rows: float32, shape (k, features)."""
        return np.frombuffer(base64.b64decode(self.rows_base64), dtype="<f4").reshape(-1, features)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One version of a model."""

    manifest_version: int
    model_version: str
    created_event_time_ms: int
    feature_set: str  # content hash of the feature definitions
    feature_names: tuple[str, ...]  # the order of the vector's columns
    fallback_feature_indices: tuple[int, ...]  # columns that the fallback model reads, in its own order
    model_format: str
    model_sha256: str
    fallback_sha256: str
    iteration_range: tuple[int, int]  # trees that predict, [first, after last); of both models
    calibration: Calibration
    fallback_calibration: Calibration
    golden: Golden
    code_version: str
    data_hash: str
    label_cut_off_ms: int  # no label observed later was used
    rows: int
    frauds: int
    metrics: Mapping[str, float]
    parameters: Mapping[str, str | int | float]
    xgboost_version: str
    reference: Reference | None = None  # what later counts are compared with; None: nobody counted


def canonical(manifest: Manifest) -> bytes:
    """The one spelling of ``manifest`` as UTF-8 JSON."""
    return orjson.dumps(_plain(manifest), option=orjson.OPT_SORT_KEYS)


def parse(content: bytes) -> Manifest:
    """The manifest spelled by ``content``. Raises `ManifestError` naming the first field that is not as it must be."""
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ManifestError(f"manifest is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ManifestError(f"manifest is a JSON {type(document).__name__}, an object is needed")
    version = document.get("manifest_version")
    if type(version) is not int or version != MANIFEST_VERSION:
        raise UnknownManifestVersionError(
            f"manifest_version={version!r}: this program reads version {MANIFEST_VERSION}"
        )
    manifest = _read(document)
    _check_relations(manifest)
    if canonical(manifest) != content:
        raise ManifestError("manifest is not in canonical spelling (sorted keys, no spaces, each key once)")
    return manifest


def _plain(value: object) -> object:
    """Dataclasses as objects, a calibration with its kind; tuples as arrays."""
    match value:
        case Platt():
            return {"kind": "platt", "slope": value.slope, "intercept": value.intercept}
        case Points():
            return {"kind": "points", "margins": value.margins, "probabilities": value.probabilities}
        case Reference():
            return to_plain(value)
        case Manifest() | Golden():
            return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        case Mapping():
            return {str(name): entry for name, entry in value.items()}
        case _:
            return value


def _read(document: dict[str, object]) -> Manifest:
    """Field by field, in the order of the dataclass; nothing missing, nothing extra."""
    names = {field.name for field in dataclasses.fields(Manifest)}
    if missing := sorted(names - document.keys()):
        raise ManifestError(f"manifest lacks {', '.join(missing)}")
    if extra := sorted(document.keys() - names):
        raise ManifestError(f"manifest has fields this program does not know: {', '.join(extra)}")

    def field(name: str, reader: Callable[[str, object], T]) -> T:
        return reader(name, document[name])

    return Manifest(
        manifest_version=field("manifest_version", _whole),
        model_version=field("model_version", _text),
        created_event_time_ms=field("created_event_time_ms", _whole),
        feature_set=field("feature_set", _text),
        feature_names=field("feature_names", _each(_text)),
        fallback_feature_indices=field("fallback_feature_indices", _each(_whole)),
        model_format=field("model_format", _text),
        model_sha256=field("model_sha256", _sha256),
        fallback_sha256=field("fallback_sha256", _sha256),
        iteration_range=field("iteration_range", _range),
        calibration=field("calibration", _calibration),
        fallback_calibration=field("fallback_calibration", _calibration),
        golden=field("golden", _golden),
        code_version=field("code_version", _text),
        data_hash=field("data_hash", _sha256),
        label_cut_off_ms=field("label_cut_off_ms", _whole),
        rows=field("rows", _whole),
        frauds=field("frauds", _whole),
        metrics=field("metrics", _numbers),
        parameters=field("parameters", _scalars),
        xgboost_version=field("xgboost_version", _text),
        reference=field("reference", _reference),
    )


def _check_relations(manifest: Manifest) -> None:
    """What no field can say alone."""
    features = len(manifest.feature_names)
    if not 1 <= features <= FEATURES_MAX:
        raise ManifestError(f"feature_names: {features} names, 1 to {FEATURES_MAX} are possible")
    if len(set(manifest.feature_names)) != features:
        raise ManifestError("feature_names: a name occurs twice")
    if manifest.model_format != MODEL_FORMAT:
        raise ManifestError(f"model_format={manifest.model_format!r}: only {MODEL_FORMAT!r} is served")
    columns = manifest.fallback_feature_indices
    if not columns or len(set(columns)) != len(columns) or max(columns) >= features:
        raise ManifestError(f"fallback_feature_indices={list(columns)}: distinct columns below {features} are needed")
    if manifest.reference is not None and len(manifest.reference.features) != features:
        raise ManifestError(f"reference: {len(manifest.reference.features)} features, {features} are named")
    rows_bytes = _base64_bytes("golden.rows_base64", manifest.golden.rows_base64)
    count = len(manifest.golden.scores)
    if not 1 <= count <= GOLDEN_ROWS_MAX or len(manifest.golden.fallback_scores) != count:
        raise ManifestError(f"golden: {count} scores, 1 to {GOLDEN_ROWS_MAX} and as many fallback scores are needed")
    if len(rows_bytes) != 4 * features * count:
        raise ManifestError(f"golden.rows_base64: {len(rows_bytes)} bytes, {count} rows of {features} float32 expected")


def _whole(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ManifestError(f"{name}={value!r}: a whole number >= 0 is needed")
    return value


def _real(name: str, value: object) -> float:
    # A whole float is spelled 1.0, so an integer here means that something else wrote the manifest.
    if not isinstance(value, float) or not math.isfinite(value):
        raise ManifestError(f"{name}={value!r}: a finite number with a decimal point is needed")
    return value


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ManifestError(f"{name}={value!r}: a non-empty string is needed")
    return value


def _sha256(name: str, value: object) -> str:
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise ManifestError(f"{name}={value!r}: a sha256 in 64 lower-case hex digits is needed")
    return value


def _each(reader: Callable[[str, object], T]) -> Callable[[str, object], tuple[T, ...]]:
    def read(name: str, value: object) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise ManifestError(f"{name}={value!r}: an array is needed")
        return tuple(reader(f"{name}[{i}]", entry) for i, entry in enumerate(value))

    return read


def _range(name: str, value: object) -> tuple[int, int]:
    bounds = _each(_whole)(name, value)
    if len(bounds) != 2 or not bounds[0] < bounds[1]:
        raise ManifestError(f"{name}={value!r}: two whole numbers [first, after last) are needed")
    return bounds[0], bounds[1]


def _object(name: str, value: object, names: set[str]) -> dict[str, object]:
    if not isinstance(value, dict) or value.keys() != names:
        raise ManifestError(f"{name}: an object with exactly {', '.join(sorted(names))} is needed")
    return value


def _calibration(name: str, value: object) -> Calibration:
    kind = value.get("kind") if isinstance(value, dict) else None
    reals = _each(_real)
    calibration: Calibration
    if kind == "platt":
        entry = _object(name, value, {"kind", "slope", "intercept"})
        calibration = Platt(
            slope=_real(f"{name}.slope", entry["slope"]), intercept=_real(f"{name}.intercept", entry["intercept"])
        )
    elif kind == "points":
        entry = _object(name, value, {"kind", "margins", "probabilities"})
        calibration = Points(
            margins=reals(f"{name}.margins", entry["margins"]),
            probabilities=reals(f"{name}.probabilities", entry["probabilities"]),
        )
    else:
        raise ManifestError(f"{name}: kind={kind!r}, 'platt' or 'points' is needed")
    if clause := flaw(calibration):
        raise ManifestError(f"{name}: {clause}")
    return calibration


def _golden(name: str, value: object) -> Golden:
    entry = _object(name, value, {"rows_base64", "scores", "fallback_scores"})
    return Golden(
        rows_base64=_text(f"{name}.rows_base64", entry["rows_base64"]),
        scores=_each(_real)(f"{name}.scores", entry["scores"]),
        fallback_scores=_each(_real)(f"{name}.fallback_scores", entry["fallback_scores"]),
    )


def _reference(name: str, value: object) -> Reference | None:
    try:
        return None if value is None else from_plain(value)
    except ReferenceFlaw as flaw_found:
        raise ManifestError(str(flaw_found)) from None


def _base64_bytes(name: str, value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ManifestError(f"{name} is not base64") from None


def _numbers(name: str, value: object) -> dict[str, float]:
    if not isinstance(value, dict):
        raise ManifestError(f"{name}={value!r}: an object of numbers is needed")
    return {key: _real(f"{name}.{key}", entry) for key, entry in value.items()}


def _scalars(name: str, value: object) -> dict[str, str | int | float]:
    if not isinstance(value, dict):
        raise ManifestError(f"{name}={value!r}: an object is needed")
    for key, entry in value.items():
        if not isinstance(entry, str | int | float) or isinstance(entry, bool):
            raise ManifestError(f"{name}.{key}={entry!r}: a string or a number is needed")
    return dict(value)
