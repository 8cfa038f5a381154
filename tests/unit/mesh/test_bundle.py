"""Only what a known key signed, whole, for these features, passes the door."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

import numpy as np
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from services.mesh import topics
from services.mesh.bundle import (
    BUNDLE_BYTES_MAX,
    DOMAIN,
    MANIFEST_BYTES_MAX,
    MODEL_BYTES_MAX,
    UBJ_HEAD,
    BundleRefused,
    Refusal,
    sha256,
    sign,
    verify,
)
from services.mesh.bundle_parts import Bundle
from services.mesh.calibration import Platt, Points
from services.mesh.manifest import Golden, Manifest, canonical, parse
from services.mesh.signing import sign_content

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
PUBLIC = [KEY.public_key()]
FEATURE_SET = "fs-1"
NAMES = ("amount", "is_night", "customer_count_1d")
MODEL = UBJ_HEAD + bytes(range(200))
FALLBACK = UBJ_HEAD + bytes(reversed(range(200)))
GOLDEN_ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)


def manifest(**changes: object) -> Manifest:
    whole = Manifest(
        manifest_version=2,
        model_version="2018-06-01.1",
        created_event_time_ms=1_527_811_200_000,
        feature_set=FEATURE_SET,
        feature_names=NAMES,
        fallback_feature_indices=(0, 1),
        model_format="ubj",
        model_sha256=sha256(MODEL),
        fallback_sha256=sha256(FALLBACK),
        iteration_range=(0, 100),
        calibration=Platt(slope=1.1, intercept=0.25),
        fallback_calibration=Points(margins=(-3.0, 2.0), probabilities=(0.01, 0.9)),
        golden=Golden.of(GOLDEN_ROWS, np.array([0.25, 0.5]), np.array([0.125, 1.0])),
        code_version="abc123",
        data_hash="0" * 64,
        label_cut_off_ms=1_527_811_200_000,
        rows=10_000,
        frauds=90,
        metrics={"average_precision": 0.7},
        parameters={"max_bin": 8192, "eta": 0.1, "tree_method": "hist"},
        xgboost_version="3.2.0",
    )
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


def bundle(**changes: object) -> Bundle:
    return sign(manifest(**changes), MODEL, FALLBACK, KEY)


def signed(document: object) -> Bundle:
    """A document of any shape, validly signed: what a broken trainer with the right key could publish."""
    content = document if isinstance(document, bytes) else orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    return Bundle(manifest=content, signature=sign_content(content, KEY, DOMAIN), model=MODEL, fallback=FALLBACK)


def document() -> dict[str, object]:
    loaded: dict[str, object] = orjson.loads(bundle().manifest)
    return loaded


def refusal(candidate: Bundle, feature_set: str = FEATURE_SET, names: tuple[str, ...] = NAMES) -> tuple[Refusal, str]:
    with pytest.raises(BundleRefused) as caught:
        verify(candidate, PUBLIC, feature_set, names)
    assert "\n" not in str(caught.value)
    return caught.value.refusal, caught.value.detail


def test_a_signed_bundle_gives_back_its_manifest() -> None:
    assert verify(bundle(), PUBLIC, FEATURE_SET, NAMES) == manifest()


def test_any_of_several_known_keys_will_do() -> None:
    assert verify(bundle(), [OTHER_KEY.public_key(), *PUBLIC], FEATURE_SET, NAMES) == manifest()


def test_golden_rows_survive_the_manifest_to_the_bit() -> None:
    rows = np.array([[np.nan, -0.0, 1e-45], [3.4e38, 1 / 3, -7]], dtype=np.float32)
    packed = Golden.of(rows, np.array([0.1, 0.2]), np.array([0.3, 0.4]))
    assert packed.rows(3).tobytes() == rows.tobytes()


def test_unsigned_is_refused() -> None:
    assert refusal(dataclasses.replace(bundle(), signature=b""))[0] is Refusal.UNSIGNED


def test_a_key_that_is_not_known_is_named() -> None:
    code, message = refusal(sign(manifest(), MODEL, FALLBACK, OTHER_KEY))
    assert code is Refusal.UNKNOWN_KEY
    assert "signed by key" in message
    assert "known keys" in message


def test_a_signature_relabelled_with_a_known_key_is_refused() -> None:
    foreign = sign(manifest(), MODEL, FALLBACK, OTHER_KEY)
    relabelled = bundle().signature[:8] + foreign.signature[8:]
    assert refusal(dataclasses.replace(foreign, signature=relabelled))[0] is Refusal.ALTERED


def test_a_signature_made_for_another_purpose_is_worth_nothing() -> None:
    content = canonical(manifest())
    for domain in (b"weir/policy/v1", DOMAIN + b"2", b""):
        candidate = dataclasses.replace(bundle(), signature=sign_content(content, KEY, domain))
        assert refusal(candidate)[0] is Refusal.ALTERED


@pytest.mark.parametrize("part", ["manifest", "signature", "model", "fallback"])
def test_no_byte_of_any_part_can_change(part: str) -> None:
    whole = bundle()
    content = getattr(whole, part)
    rng = random.Random(7)
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= rng.randrange(1, 256)
        code, _ = refusal(dataclasses.replace(whole, **{part: bytes(changed)}))
        # A changed key name within the signature is another key's signature.
        assert code is (Refusal.UNKNOWN_KEY if part == "signature" and at < 8 else Refusal.ALTERED), at


@pytest.mark.parametrize("part", ["manifest", "signature", "model", "fallback"])
@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"\x00", lambda b: b[: len(b) // 2]])
def test_no_part_can_shrink_or_grow(part: str, change: Callable[[bytes], bytes]) -> None:
    whole = bundle()
    altered = dataclasses.replace(whole, **{part: change(getattr(whole, part))})
    assert refusal(altered)[0] is Refusal.ALTERED


def test_parts_of_two_signed_bundles_do_not_mix() -> None:
    other = sign(manifest(model_sha256=sha256(MODEL + b"2")), MODEL + b"2", FALLBACK, KEY)
    assert refusal(dataclasses.replace(bundle(), model=other.model))[0] is Refusal.ALTERED
    assert refusal(dataclasses.replace(bundle(), model=FALLBACK, fallback=MODEL))[0] is Refusal.ALTERED
    assert refusal(dataclasses.replace(bundle(), signature=other.signature))[0] is Refusal.ALTERED


@given(garbage=st.binary(max_size=300), signature=st.binary(max_size=100))
@settings(max_examples=200, deadline=None)
def test_garbage_is_refused_and_never_raises_anything_else(garbage: bytes, signature: bytes) -> None:
    candidate = Bundle(manifest=garbage, signature=signature, model=garbage, fallback=b"")
    assert refusal(candidate)[0] in {Refusal.UNSIGNED, Refusal.UNKNOWN_KEY, Refusal.ALTERED}


@pytest.mark.parametrize(
    ("part", "size"),
    [("manifest", MANIFEST_BYTES_MAX + 1), ("model", MODEL_BYTES_MAX + 1), ("fallback", MODEL_BYTES_MAX + 1)],
)
def test_absurd_sizes_are_refused_before_anything_is_read(part: str, size: int) -> None:
    code, message = refusal(dataclasses.replace(bundle(), **{part: bytes(size)}))
    assert code is Refusal.TOO_LARGE
    assert str(size) in message


def test_the_largest_bundle_fits_a_record_of_its_topic() -> None:
    assert BUNDLE_BYTES_MAX + 65_536 <= topics.MODEL_BYTES_MAX  # names, reasons and framing beside it


def test_another_feature_set_is_refused_with_both_names() -> None:
    code, message = refusal(bundle(), feature_set="fs-2")
    assert code is Refusal.WRONG_FEATURE_SET
    assert "fs-1" in message
    assert "fs-2" in message


def test_another_feature_order_is_refused_with_the_column() -> None:
    code, message = refusal(bundle(), names=(NAMES[0], NAMES[2], NAMES[1]))
    assert code is Refusal.WRONG_FEATURE_SET
    assert "column 1" in message


def test_another_number_of_features_is_refused() -> None:
    assert refusal(bundle(), names=(*NAMES, "extra"))[0] is Refusal.WRONG_FEATURE_SET
    assert refusal(bundle(), names=NAMES[:2])[0] is Refusal.WRONG_FEATURE_SET


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93.",
        b'{"learner":{"attributes":{}}}',
        b'{ "learner": {} }',
        b"\x1f\x8b\x08\x00gzip",
        b"PK\x03\x04zip",
        b"\x7fELF",
        b"binf\x00old xgboost",
        b"",
        b"{",
    ],
    ids=["pickle", "json", "json with spaces", "gzip", "zip", "elf", "binf", "empty", "brace"],
)
def test_a_signed_file_of_another_type_is_refused(content: bytes) -> None:
    as_model = sign(manifest(model_sha256=sha256(content)), content, FALLBACK, KEY)
    as_fallback = sign(manifest(fallback_sha256=sha256(content)), MODEL, content, KEY)
    assert refusal(as_model)[0] is Refusal.WRONG_FILE_TYPE
    assert refusal(as_fallback)[0] is Refusal.WRONG_FILE_TYPE


@pytest.mark.parametrize("version", [0, 1, 3, "2", None, 2.0, True])
def test_an_unknown_manifest_version_is_refused_before_its_fields(version: object) -> None:
    code, message = refusal(signed({"manifest_version": version}))
    assert code is Refusal.UNKNOWN_MANIFEST_VERSION
    assert "manifest_version" in message


@pytest.mark.parametrize("field", sorted({f.name for f in dataclasses.fields(Manifest)} - {"manifest_version"}))
def test_every_field_is_needed_and_its_absence_named(field: str) -> None:
    whole = document()
    del whole[field]
    assert refusal(signed(whole)) == (Refusal.MALFORMED_MANIFEST, f"manifest lacks {field}")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_version", ""),
        ("model_version", 7),
        ("created_event_time_ms", -1),
        ("created_event_time_ms", "1527811200000"),
        ("rows", True),
        ("frauds", 1.0),
        ("feature_names", []),
        ("feature_names", ["amount", "amount", "is_night"]),
        ("feature_names", "amount"),
        ("fallback_feature_indices", [3]),
        ("fallback_feature_indices", []),
        ("fallback_feature_indices", [0, 0]),
        ("model_format", "json"),
        ("model_format", "pickle"),
        ("model_sha256", "A" * 64),
        ("data_hash", "0" * 63),
        ("iteration_range", [0, 0]),
        ("iteration_range", [5]),
        ("iteration_range", [-1, 5]),
        ("calibration", {"kind": "platt", "slope": 0.0, "intercept": 0.5}),
        ("calibration", {"kind": "platt", "slope": -1.0, "intercept": 0.5}),
        ("calibration", {"kind": "platt", "slope": 1.0}),
        ("calibration", {"kind": "platt", "slope": None, "intercept": 0.5}),
        ("calibration", {"kind": "points", "margins": [0.0, 1.0], "probabilities": [0.9, 0.1]}),
        ("calibration", {"kind": "points", "margins": [1.0, 0.0], "probabilities": [0.1, 0.9]}),
        ("calibration", {"kind": "points", "margins": [0.0, 1.0], "probabilities": [0.1, 1.1]}),
        ("calibration", {"kind": "points", "margins": [0.0], "probabilities": [0.1]}),
        ("calibration", {"kind": "code", "source": "exit()"}),
        ("fallback_calibration", []),
        ("golden", {"rows_base64": "AAAA", "scores": [0.5], "fallback_scores": [0.5]}),
        ("golden", {"rows_base64": "not base64!", "scores": [0.5], "fallback_scores": [0.5]}),
        ("golden", {"rows_base64": "", "scores": [], "fallback_scores": []}),
        ("golden", {}),
        ("metrics", {"average_precision": "high"}),
        ("metrics", None),
        ("parameters", {"eta": [0.1]}),
        ("reference", []),
        ("reference", {"rows": 1}),
    ],
)
def test_a_field_out_of_shape_is_refused_by_name(field: str, value: object) -> None:
    code, message = refusal(signed(document() | {field: value}))
    assert code is Refusal.MALFORMED_MANIFEST
    assert message.startswith(field)


def test_a_field_too_many_is_refused_by_name() -> None:
    code, message = refusal(signed(document() | {"retries": 3}))
    assert code is Refusal.MALFORMED_MANIFEST
    assert "retries" in message


@pytest.mark.parametrize(
    "content", [b"[]", b"null", b"\xff\xfe", b"{", b"[" * 100_000, b"{}" * 2, b'{"manifest_version":2']
)
def test_a_signed_manifest_that_is_no_object_is_refused(content: bytes) -> None:
    assert refusal(signed(content))[0] in {Refusal.MALFORMED_MANIFEST, Refusal.UNKNOWN_MANIFEST_VERSION}


def test_one_value_has_one_spelling() -> None:
    for spelling in (
        orjson.dumps(document(), option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2),
        orjson.dumps(dict(reversed(document().items()))),
        bundle().manifest.replace(b'{"calibration"', b'{"rows":1,"calibration"'),
    ):
        assert refusal(signed(spelling))[0] is Refusal.MALFORMED_MANIFEST
    assert canonical(parse(bundle().manifest)) == bundle().manifest


def test_signing_refuses_files_that_the_manifest_does_not_name() -> None:
    with pytest.raises(AssertionError):
        sign(manifest(), FALLBACK, FALLBACK, KEY)
