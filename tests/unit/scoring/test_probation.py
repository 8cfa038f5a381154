"""A signed model that cannot be loaded, or answers otherwise than it promised, kills a child and nothing else."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from trained import resigned, trained, with_first

from services.mesh.bundle import BundleRefused, Refusal
from services.mesh.bundle_parts import Bundle
from services.mesh.manifest import Golden, Manifest
from services.scoring import probation
from services.scoring.probation import Limits, Probation, load_on_probation

# Three CPU seconds are ten times what the child needs and keep the hang test short.
LIMITS = Limits(cpu_s_max=3, wall_s_max=60)


def refusal(bundle: Bundle, manifest: Manifest, limits: Limits = LIMITS) -> tuple[Refusal, str]:
    with pytest.raises(BundleRefused) as caught:
        load_on_probation(bundle, manifest, limits)
    assert "\n" not in str(caught.value)
    return caught.value.refusal, caught.value.detail


def test_a_good_bundle_passes() -> None:
    load_on_probation(*trained(), LIMITS)


@pytest.mark.parametrize("array", [b"left_children", b"split_indices"])
def test_a_signed_model_that_crashes_is_refused(array: bytes) -> None:
    bundle, manifest = trained()
    code, message = refusal(*resigned(manifest, with_first(bundle.model, array, 0x0FFF_FFFF), bundle.fallback))
    assert code is Refusal.CRASHED
    assert "signal 11" in message


def test_a_signed_fallback_that_crashes_is_refused() -> None:
    bundle, manifest = trained()
    damaged = with_first(bundle.fallback, b"left_children", 0x0FFF_FFFF)
    assert refusal(*resigned(manifest, bundle.model, damaged))[0] is Refusal.CRASHED


def test_a_child_that_works_for_ever_runs_into_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    # No damage found so far makes this release of xgboost loop for ever, so the loop is ours; the limit is real.
    monkeypatch.setattr(
        probation, "CHILD", ("-c", "from services.scoring.probation import _limit; _limit()\nwhile 1: 0")
    )
    code, message = refusal(*trained(), Limits(cpu_s_max=1))
    assert code is Refusal.HUNG
    assert "1 s of CPU" in message


def test_a_child_that_waits_for_ever_is_killed() -> None:
    on_probation = Probation(*trained(), Limits(wall_s_max=0.3))
    os.kill(on_probation._child.pid, signal.SIGSTOP)
    assert not on_probation.passed()
    time.sleep(0.3)
    with pytest.raises(BundleRefused) as caught:
        on_probation.passed()
    assert caught.value.refusal is Refusal.HUNG
    assert on_probation._child.returncode == -signal.SIGKILL


def test_asking_never_waits_for_the_child() -> None:
    started = time.monotonic()
    on_probation = Probation(*trained(), LIMITS)
    assert not on_probation.passed()
    assert time.monotonic() - started < 0.2
    while not on_probation.passed():
        time.sleep(0.01)


def test_a_child_that_ends_without_a_verdict_vouches_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("pass", "print('loading')", "print('{}')", "print('[1]')"):
        monkeypatch.setattr(probation, "CHILD", ("-c", program))
        assert refusal(*trained())[0] is Refusal.CRASHED


def test_a_signed_truncated_model_is_refused_with_the_loaders_words() -> None:
    bundle, manifest = trained()
    code, message = refusal(*resigned(manifest, bundle.model[: len(bundle.model) // 2], bundle.fallback))
    assert code is Refusal.UNLOADABLE
    assert "xgboost" in message


def test_a_model_that_answers_otherwise_is_refused() -> None:
    bundle, manifest = trained()
    other, _ = trained("m2", seed=2)
    assert refusal(*resigned(manifest, other.model, bundle.fallback))[0] is Refusal.GOLDEN_MISMATCH
    assert refusal(*resigned(manifest, bundle.model, other.fallback))[0] is Refusal.GOLDEN_MISMATCH


def test_a_difference_just_above_rounding_is_refused() -> None:
    bundle, manifest = trained()
    rows, scores = manifest.golden.rows(4), np.array(manifest.golden.scores)
    scores[3] += 2e-6
    golden = Golden.of(rows, scores, np.array(manifest.golden.fallback_scores))
    moved = dataclasses.replace(manifest, golden=golden)
    assert refusal(*resigned(moved, bundle.model, bundle.fallback))[0] is Refusal.GOLDEN_MISMATCH


def test_models_swapped_for_each_other_are_refused() -> None:
    bundle, manifest = trained()
    code, message = refusal(*resigned(manifest, bundle.fallback, bundle.model))
    assert code is Refusal.UNLOADABLE
    assert "reads 2 features, the manifest says 4" in message


def test_fewer_trees_than_the_manifest_predicts_with_are_refused() -> None:
    bundle, manifest = trained()
    longer = dataclasses.replace(manifest, iteration_range=(0, 41))
    assert refusal(*resigned(longer, bundle.model, bundle.fallback))[0] is Refusal.UNLOADABLE


def test_no_mutant_of_the_model_survives_unnoticed_or_harms_the_parent() -> None:
    """Signed mutants: each is refused, or answers all golden rows as the original does."""
    bundle, manifest = trained()
    rng = random.Random(11)
    refused = 0
    for _ in range(8):
        model = bytearray(bundle.model)
        for _ in range(3):
            model[rng.randrange(64, len(model))] = rng.randrange(256)
        try:
            load_on_probation(*resigned(manifest, bytes(model), bundle.fallback), LIMITS)
        except BundleRefused as error:
            refused += error.refusal in set(Refusal) - {Refusal.ALTERED, Refusal.UNSIGNED}
    assert refused >= 4


def test_too_little_memory_refuses_and_says_how_the_child_died() -> None:
    code, _ = refusal(*trained(), Limits(memory_bytes_max=64 * 1024**2))
    assert code is Refusal.CRASHED


def test_the_child_gets_neither_secrets_nor_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR_REDIS_PASSWORD", "canary")
    assert "canary" not in repr(probation._environment(LIMITS))
    held = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(held, True)
    on_probation = Probation(*trained(), LIMITS)
    inside = Path(f"/proc/{on_probation._child.pid}")
    try:
        while not (inside / "cmdline").read_bytes().startswith(os.fsencode(sys.executable)):
            time.sleep(0.001)
        open_files = {entry.name for entry in (inside / "fd").iterdir()}
        environment = (inside / "environ").read_bytes()
    finally:
        on_probation.close()
        os.close(held)
    assert str(held) not in open_files
    assert b"canary" not in environment
