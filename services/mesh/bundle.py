"""A signed model bundle: the whole of a model in one record of ``models.v1``, and the door it must pass.

    signature ── covers ──▶ manifest ── sha256 of ──▶ model, fallback

`verify` reads nothing that it has not yet checked: sizes first, then the signature, then the manifest, then that the
files are the ones it names. Loaders of model files crash on altered bytes (xgboost's by design: its project says models
must come from a trusted source), so no loader may see a byte before `verify` returned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import StrEnum

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from services.mesh.bundle_parts import Bundle
from services.mesh.errors import WeirError
from services.mesh.manifest import Manifest, ManifestError, UnknownManifestVersionError, canonical, parse
from services.mesh.signing import AlteredError, UnknownKeyError, check_signature, sign_content

DOMAIN = b"weir/model-bundle/v1"
# 25 features with 16 golden rows make 6 kB; a thousand features with 64 golden rows 400 kB.
MANIFEST_BYTES_MAX = 512 * 1024
# 100 trees of depth 3 are 116 kB; 500 of depth 6 about 2 MB. Both files and the manifest fit one record of models.v1.
MODEL_BYTES_MAX = 3_500 * 1024
BUNDLE_BYTES_MAX = MANIFEST_BYTES_MAX + 2 * MODEL_BYTES_MAX
# A UBJSON object whose first key ("learner") has a 64-bit length, as xgboost writes it. JSON text begins with {" or {␣.
UBJ_HEAD = b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner"


class Refusal(StrEnum):
    """Every reason for which a bundle is not served."""

    UNSIGNED = "unsigned"
    UNKNOWN_KEY = "unknown_key"
    ALTERED = "altered"
    TOO_LARGE = "too_large"
    UNKNOWN_MANIFEST_VERSION = "unknown_manifest_version"
    MALFORMED_MANIFEST = "malformed_manifest"
    WRONG_FEATURE_SET = "wrong_feature_set"
    WRONG_FILE_TYPE = "wrong_file_type"
    CRASHED = "crashed"  # from here on: on probation, in a child process
    HUNG = "hung"
    UNLOADABLE = "unloadable"
    GOLDEN_MISMATCH = "golden_mismatch"


class BundleRefused(WeirError):
    """The bundle must not serve; the model in force stays. ``refusal`` is the metric's label."""

    def __init__(self, refusal: Refusal, message: str) -> None:
        super().__init__(f"model bundle refused ({refusal}): {message}")
        self.refusal = refusal
        self.detail = message


def sha256(content: bytes) -> str:
    """Lower-case hex."""
    return hashlib.sha256(content).hexdigest()


def sign(manifest: Manifest, model: bytes, fallback: bytes, key: Ed25519PrivateKey) -> Bundle:
    """Bind the files to the manifest and sign it. Signs what it is given: probation is what tries it."""
    assert manifest.model_sha256 == sha256(model), "the manifest names another model file"
    assert manifest.fallback_sha256 == sha256(fallback), "the manifest names another fallback file"
    content = canonical(manifest)
    return Bundle(manifest=content, signature=sign_content(content, key, DOMAIN), model=model, fallback=fallback)


def verify(
    bundle: Bundle,
    public_keys: Sequence[Ed25519PublicKey],
    expected_feature_set: str,
    expected_feature_names: Sequence[str],
) -> Manifest:
    """The manifest of ``bundle``, if every byte of it is what a known key signed, for exactly these features.

    Raises `BundleRefused`.
    """
    _check_sizes(bundle)
    _check_signature(bundle, public_keys)
    manifest = _parse(bundle.manifest)
    for name, content, digest in (
        ("model", bundle.model, manifest.model_sha256),
        ("fallback", bundle.fallback, manifest.fallback_sha256),
    ):
        if sha256(content) != digest:
            raise BundleRefused(
                Refusal.ALTERED, f"{name} of {manifest.model_version} has sha256 {sha256(content)}, signed is {digest}"
            )
        _check_file_type(name, content)
    _check_features(manifest, expected_feature_set, expected_feature_names)
    return manifest


def _check_sizes(bundle: Bundle) -> None:
    for name, content, bytes_max in (
        ("manifest", bundle.manifest, MANIFEST_BYTES_MAX),
        ("model", bundle.model, MODEL_BYTES_MAX),
        ("fallback", bundle.fallback, MODEL_BYTES_MAX),
    ):
        if len(content) > bytes_max:
            raise BundleRefused(Refusal.TOO_LARGE, f"{name} of {len(content)} bytes, at most {bytes_max} are read")


def _check_signature(bundle: Bundle, public_keys: Sequence[Ed25519PublicKey]) -> None:
    if not bundle.signature:
        raise BundleRefused(Refusal.UNSIGNED, "no signature; build it with the training command and its key")
    try:
        check_signature(bundle.manifest, bundle.signature, public_keys, DOMAIN)
    except UnknownKeyError as error:
        raise BundleRefused(Refusal.UNKNOWN_KEY, f"{error}; add the public key if it is trusted") from None
    except AlteredError as error:
        raise BundleRefused(Refusal.ALTERED, f"{error}; fetch the bundle again from who built it") from None


def _parse(content: bytes) -> Manifest:
    try:
        return parse(content)
    except UnknownManifestVersionError as error:
        raise BundleRefused(Refusal.UNKNOWN_MANIFEST_VERSION, str(error)) from None
    except ManifestError as error:
        raise BundleRefused(Refusal.MALFORMED_MANIFEST, str(error)) from None


def _check_file_type(name: str, content: bytes) -> None:
    if not content.startswith(UBJ_HEAD):
        raise BundleRefused(
            Refusal.WRONG_FILE_TYPE, f"{name} begins {content[:8]!r}, an xgboost UBJSON model begins {UBJ_HEAD[:2]!r}"
        )


def _check_features(manifest: Manifest, expected_set: str, expected_names: Sequence[str]) -> None:
    """By hash and by name: a hash says that something differs, the names say what."""
    for column, (name, expected) in enumerate(zip(manifest.feature_names, expected_names, strict=False)):
        if name != expected:
            raise BundleRefused(
                Refusal.WRONG_FEATURE_SET,
                f"column {column} of {manifest.model_version} is {name}, served is {expected}",
            )
    if len(manifest.feature_names) != len(expected_names):
        raise BundleRefused(
            Refusal.WRONG_FEATURE_SET,
            f"{manifest.model_version} reads {len(manifest.feature_names)} features, {len(expected_names)} are served",
        )
    if manifest.feature_set != expected_set:
        raise BundleRefused(
            Refusal.WRONG_FEATURE_SET,
            f"{manifest.model_version} was trained on feature set {manifest.feature_set}, served is {expected_set}",
        )
