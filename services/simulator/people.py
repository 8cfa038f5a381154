"""Who lives in the world: customers and terminals on a plane, their towns, habits and neighbourhoods.

Everything here is drawn once from the seed and never changes afterwards. Terminals are numbered along a Z-order curve
(Morton 1966): two terminals with neighbouring numbers stand near each other, so a neighbourhood is a slice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COUNTRIES = ("DE", "FR", "NL", "ES", "IT", "PL")
FOREIGN_COUNTRIES = ("US", "BR", "TH", "NG", "VN")
ALL_COUNTRIES = COUNTRIES + FOREIGN_COUNTRIES

NEIGHBOURHOOD_TERMINALS = 24  # a person's shops; more makes each visit to one rarer
_CUSTOMERS_PER_TOWN = 250
_PLANE_BITS = 12  # a 4,096 x 4,096 grid: finer than any town is wide

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """The world's population; arrays are indexed by customer, shape (customers,), unless said otherwise."""

    home_country: Ints  # index into ALL_COUNTRIES
    payments_per_day: Floats
    amount_log_mean: Floats  # natural logarithm of the typical amount in major units
    amount_log_sigma: Floats
    online_share: Floats
    neighbourhood: NDArray[np.int32]  # shape (customers, k): terminals near home, most visited first
    near_terminal: NDArray[np.int32]  # customers ordered along the curve that numbers the terminals
    near_terminal_rank: Ints  # shape (terminals,): where on that order a terminal stands
    terminals: int

    @property
    def customers(self) -> int:
        """How many customers there are."""
        return len(self.payments_per_day)


def draw_people(rng: np.random.Generator, customers: int, terminals: int, payments_per_customer_day: float) -> People:
    """Draw a population; the mean of ``payments_per_day`` is ``payments_per_customer_day``."""
    towns = rng.random((max(4, customers // _CUSTOMERS_PER_TOWN), 2))
    customer_place = _settle(rng, towns, customers)
    terminal_curve = np.sort(_z_order(_settle(rng, towns, terminals)))
    customer_curve = _z_order(customer_place)
    rank = np.searchsorted(terminal_curve, customer_curve)
    by_curve = np.argsort(customer_curve, kind="stable")
    appetite = rng.gamma(2.0, 0.5, customers)
    return People(
        home_country=(customer_place[:, 0] * len(COUNTRIES)).astype(np.int64),
        payments_per_day=appetite * (payments_per_customer_day / appetite.mean()),
        amount_log_mean=rng.normal(np.log(28.0), 0.45, customers),
        amount_log_sigma=rng.uniform(0.25, 0.5, customers),
        online_share=rng.beta(1.5, 4.0, customers),
        neighbourhood=_neighbourhoods(rng, rank, terminals),
        near_terminal=by_curve.astype(np.int32),
        near_terminal_rank=np.searchsorted(customer_curve[by_curve], terminal_curve),
        terminals=terminals,
    )


def _settle(rng: np.random.Generator, towns: Floats, people: int) -> Floats:
    """Places around towns, shape (people, 2) in [0, 1); a town's size falls with its rank (Zipf)."""
    weights = 1.0 / np.arange(1, len(towns) + 1)
    town = rng.choice(len(towns), people, p=weights / weights.sum())
    return np.clip(towns[town] + rng.normal(0.0, 0.02, (people, 2)), 0.0, np.nextafter(1.0, 0.0))


def _z_order(places: Floats) -> Ints:
    """Morton code of each place: the bits of x and y interleaved."""
    cells = (places * (1 << _PLANE_BITS)).astype(np.int64)
    code = np.zeros(len(places), np.int64)
    for bit in range(_PLANE_BITS):
        code |= ((cells[:, 0] >> bit) & 1) << (2 * bit) | ((cells[:, 1] >> bit) & 1) << (2 * bit + 1)
    return code


def _neighbourhoods(rng: np.random.Generator, rank: Ints, terminals: int) -> NDArray[np.int32]:
    """The terminals around each rank, each person's own favourites first, shape (customers, k)."""
    size = min(NEIGHBOURHOOD_TERMINALS, terminals)
    start = np.clip(rank - size // 2, 0, terminals - size)
    favourites = np.argsort(rng.random((len(rank), size)), axis=1)
    return (start[:, None] + favourites).astype(np.int32)
