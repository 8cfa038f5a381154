"""The test that promotes: how often it is wrong, and how soon it is right."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sister_models import blocks

from services.retraining.betting import log_wealth, scaled
from services.retraining.evidence import differences

NEEDED = math.log(1 / 0.05)


def crossed_at(bets: np.ndarray) -> int | None:
    """The first look at which the wealth suffices; None: never."""
    found = np.flatnonzero(log_wealth(bets) >= NEEDED)
    return int(found[0]) if len(found) else None


def test_no_challenger_that_is_no_better_is_promoted_in_forty_trials_at_the_stated_rate() -> None:
    """Looked at after every six hours of a month; 5% of 40 are two."""
    rng = np.random.default_rng(20)
    crossed = [crossed_at(differences(blocks(rng, 120, 0.8, 0.8))) is not None for _ in range(40)]
    assert sum(crossed) <= 2


def test_a_better_challenger_is_found_within_days_and_a_clearly_better_one_at_once() -> None:
    rng = np.random.default_rng(21)
    slightly = [crossed_at(differences(blocks(rng, 120, 0.9, 0.6))) for _ in range(8)]
    clearly = [crossed_at(differences(blocks(rng, 20, 3.0, 0.5))) for _ in range(8)]
    assert all(at is not None and at <= 56 for at in slightly), slightly
    assert all(at is not None and at <= 9 for at in clearly), clearly


def test_fair_bets_keep_their_wealth_on_average() -> None:
    """What Ville's inequality rests on: the mean over many fair games never exceeds 1."""
    rng = np.random.default_rng(22)
    games = rng.choice([-1.0, 1.0], (20_000, 12))
    means = np.mean([np.exp(log_wealth(game)) for game in games], axis=0)
    # The wealth's own spread after 12 rounds leaves the mean of 20,000 games within 8%.
    assert np.all(means < 1.08)
    assert np.mean([log_wealth(game).max() >= NEEDED for game in games]) <= 0.05


def test_the_wealth_is_that_of_several_shares_kept_apart() -> None:
    bets = np.array([0.5, -1.0, 0.25])
    shares = (0.1, 0.2, 0.4, 0.6, 0.8, 0.95)
    expected = [np.mean([np.prod([1 + s * b for b in bets[: n + 1]]) for s in shares]) for n in range(3)]
    assert np.exp(log_wealth(bets)) == pytest.approx(expected)
    assert len(log_wealth(np.empty(0))) == 0


def test_a_bet_is_scaled_by_the_past_alone() -> None:
    """A scale that knew its own block would turn a fair game into an unfair one."""
    differences_before = [0.02, -0.05, 0.01]
    assert scaled([*differences_before, 9.0])[:3].tolist() == scaled(differences_before).tolist()
    assert scaled([9.0]).tolist() == [1.0]
    assert np.all(np.abs(scaled([1.0, -1.0, 1e-9, 5.0])) <= 1.0)
