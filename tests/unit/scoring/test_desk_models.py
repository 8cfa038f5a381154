"""Which model serves, as releases come, fail on trial and are taken back."""

from __future__ import annotations

import psutil
import pytest
from model_releases import Shelf, bundle_of, other_bytes

from services.mesh.niceness import LAST

NICENESS_MAX = 19  # of Linux


def test_before_the_first_model_bootstrap_serves() -> None:
    desk = Shelf().desk()
    assert desk.champion.version == "bootstrap"
    assert desk.challengers == []


def test_what_was_promoted_before_the_start_serves_from_the_start() -> None:
    shelf = Shelf()
    shelf.publish("m1", "promote", bundle_of("m1"))
    desk = shelf.desk()
    assert desk.champion.version == "m1"
    assert shelf.telemetry.health.versions["model"] == "m1"


def test_a_model_serves_only_after_its_trial_and_the_one_before_goes_on() -> None:
    shelf = Shelf()
    desk = shelf.desk()
    shelf.publish("m1", "promote", bundle_of("m1"))
    desk.turn()
    assert desk.champion.version == "bootstrap"
    shelf.settle(desk)
    assert desk.champion.version == "m1"


def test_a_damaged_bundle_is_refused_and_the_one_before_goes_on() -> None:
    shelf = Shelf()
    desk = shelf.desk()
    bundle = bundle_of("m1")
    shelf.publish("m1", "promote", other_bytes(bundle))
    shelf.settle(desk)
    assert desk.champion.version == "bootstrap"
    shelf.publish("m1", "retire")
    shelf.publish("m1", "promote", bundle)
    shelf.settle(desk)
    assert desk.champion.version == "m1", "retired and released anew, it counts again"


def test_other_bytes_for_a_version_that_is_known_are_refused_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """Or this process would serve the first ones, and one that starts now the second."""
    shelf = Shelf()
    desk = shelf.desk()
    bundle, other = bundle_of("m1"), other_bytes(bundle_of("m1"))
    shelf.publish("m1", "promote", bundle)
    shelf.settle(desk)
    before = shelf.refusals()
    shelf.publish("m1", "promote", other)
    shelf.publish("m1", "promote", bundle)  # the same bytes again are no other model
    shelf.settle(desk)
    assert shelf.refusals() == before + 1
    assert "model m1 refused, m1 goes on: its promote is void: m1 was released with other bytes" in caplog.text
    assert shelf.desk()._roster.bundles["m1"] == bundle


def test_a_version_that_was_retired_may_come_back_with_other_bytes_and_is_tried_anew() -> None:
    shelf = Shelf()
    desk = shelf.desk()
    shelf.publish("m1", "promote", bundle_of("m1"))
    shelf.settle(desk)
    shelf.publish("m1", "retire")
    shelf.publish("m1", "promote", other_bytes(bundle_of("m1")))
    shelf.settle(desk)
    assert desk.champion.version == "bootstrap", "these bytes are not what was signed"


def test_a_bundle_under_another_name_is_refused() -> None:
    shelf = Shelf()
    desk = shelf.desk()
    shelf.publish("m2", "promote", bundle_of("m1"))
    shelf.settle(desk)
    assert desk.champion.version == "bootstrap"


def test_bytes_that_replace_those_on_trial_are_tried_themselves() -> None:
    """The child vouched for other bytes: its verdict must not let these in."""
    shelf = Shelf()
    desk = shelf.desk()
    bundle = bundle_of("m1")
    shelf.publish("m1", "promote", bundle)
    desk.turn()
    assert desk._trial is not None
    first = desk._trial.probation
    shelf.publish("m1", "retire")
    shelf.publish("m1", "promote", other_bytes(bundle))
    shelf.settle(desk)
    assert first._child.poll() is not None, "its child is not left behind"
    assert desk.champion.version == "bootstrap"


def test_the_trial_of_a_model_that_is_retired_ends() -> None:
    shelf = Shelf()
    desk = shelf.desk()
    shelf.publish("m1", "promote", bundle_of("m1"))
    desk.turn()
    assert desk._trial is not None
    child = desk._trial.probation._child
    shelf.publish("m1", "retire")
    desk.turn()
    assert desk._trial is None
    assert child.poll() is not None
    assert desk.champion.version == "bootstrap"


def test_a_trial_goes_on_while_its_version_is_between_two_places() -> None:
    """Promoting another and challenging with this one are two records: a poll may bring the first alone."""
    shelf = Shelf()
    shelf.publish("m1", "promote", bundle_of("m1"))
    desk = shelf.desk()
    shelf.publish("m2", "promote", bundle_of("m2"))
    desk.turn()
    assert desk._trial is not None
    first = desk._trial.probation
    for version in ("m1", "m2"):
        shelf.publish(version, "promote", bundle_of(version))  # the same bytes once more
        desk.turn()
        assert desk._trial is not None
        assert desk._trial.probation is first
    shelf.publish("m1", "rollback")
    shelf.settle(desk)
    assert desk.champion.version == "m1"
    shelf.publish("m2", "promote")
    desk.turn()
    assert desk.champion.version == "m2", "its trial was not wasted"


def test_a_champion_on_trial_comes_before_a_challenger() -> None:
    shelf = Shelf()
    desk = shelf.desk()
    shelf.publish("m1", "challenge", bundle_of("m1"))
    desk.turn()
    shelf.publish("m2", "promote", bundle_of("m2"))
    desk.turn()
    assert desk._trial is not None
    assert desk._trial.version == "m2"
    shelf.settle(desk)
    assert desk.champion.version == "m2"
    assert [challenger.version for challenger in desk.challengers] == ["m1"]


def test_retiring_brings_back_the_one_before() -> None:
    shelf = Shelf()
    shelf.publish("m1", "promote", bundle_of("m1"))
    shelf.publish("m2", "promote", bundle_of("m2"))
    desk = shelf.desk()
    assert desk.champion.version == "m2"
    shelf.publish("m2", "retire")
    shelf.settle(desk)
    assert desk.champion.version == "m1"


def test_a_rollback_to_the_one_before_needs_no_second_trial() -> None:
    shelf = Shelf()
    desk = shelf.desk()
    for version in ("m1", "m2"):
        shelf.publish(version, "promote", bundle_of(version))
        shelf.settle(desk)
    shelf.publish("m1", "rollback")
    desk.turn()
    assert desk.champion.version == "m1"
    shelf.publish("m2", "promote")
    desk.turn()
    assert desk.champion.version == "m2"


def test_of_the_models_that_left_the_last_two_stay_loaded() -> None:
    shelf = Shelf()
    desk = shelf.desk()
    for version in ("m1", "m2", "m3", "m4"):
        shelf.publish(version, "promote", bundle_of(version))
        shelf.settle(desk)
    assert list(desk._loaded) == ["m2", "m3", "m4"]
    shelf.publish("m2", "promote")
    desk.turn()
    assert list(desk._loaded) == ["m3", "m4", "m2"]


def test_only_the_start_waits_for_a_trial_later_ones_step_back_behind_the_batches() -> None:
    shelf = Shelf()
    desk = shelf.desk()
    shelf.publish("m1", "promote", bundle_of("m1"))
    desk.turn()
    assert desk._trial is not None
    niceness = psutil.Process(desk._trial.probation._child.pid).nice()
    assert niceness == min(psutil.Process().nice() + LAST, NICENESS_MAX)
    shelf.settle(desk)


def test_a_challenger_on_trial_does_not_hold_up_the_champion() -> None:
    shelf = Shelf()
    desk = shelf.desk()
    shelf.publish("m2", "challenge", bundle_of("m2"))
    shelf.publish("m1", "promote", bundle_of("m1"))
    while desk.champion.version == "bootstrap":
        desk.turn()
    assert desk.challengers == []
    assert desk._trial is not None
    assert desk._trial.version == "m2"
    shelf.settle(desk)
    assert [challenger.version for challenger in desk.challengers] == ["m2"]


def test_a_record_that_is_no_release_is_refused_and_said() -> None:
    shelf = Shelf()
    shelf.put(b"junk")
    shelf.publish("m1", "promote", bundle_of("m1"))
    assert shelf.desk().champion.version == "m1"
    assert shelf.refusals() == 1
