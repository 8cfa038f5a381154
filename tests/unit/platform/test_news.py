"""Routine stays in the log book; what a person should know is said."""

from __future__ import annotations

import pytest

from services.platform.news import changes, news_of


@pytest.mark.parametrize("what", ["started as process 7", "stopped"])
def test_routine_is_no_news(what: str) -> None:
    assert news_of("kafka", what, is_server=True, is_ready=True) is None


def test_servers_are_reported_one_by_one_and_stages_together() -> None:
    assert news_of("kafka", "healthy after 4.1 s", is_server=True, is_ready=False) == "kafka: healthy after 4.1 s"
    assert news_of("scoring-0", "healthy after 2.0 s", is_server=False, is_ready=False) is None


@pytest.mark.parametrize(
    "what",
    ["died (SIGKILL), restart in 0.2 s", "restarted as process 8", "healthy after 2.0 s", "does not answer",
     "killed after 3.0 s", "left over from an earlier run, killed"],
)  # fmt: skip
def test_a_death_and_what_follows_is_said(what: str) -> None:
    assert news_of("scoring-0", what, is_server=False, is_ready=True) == f"scoring-0: {what}"


def test_a_name_is_said_once() -> None:
    said = "simulator failed: simulator: payments.csv:7: not sorted"
    assert news_of("simulator", said, is_server=False, is_ready=True) == said


def test_ends_are_said_in_words() -> None:
    assert news_of("simulator", "done", is_server=False, is_ready=True) == "input sent"
    assert news_of("retraining", "done", is_server=False, is_ready=True) == "model trained"


def test_only_what_replaces_something_is_a_change() -> None:
    assert changes({}, {"model": "bootstrap"}) == []
    assert changes({"model": "bootstrap"}, {"model": "bootstrap", "policy": "1"}) == []
    assert changes({"model": "bootstrap"}, {"model": "2025"}) == ["model 2025 in force, after bootstrap"]
