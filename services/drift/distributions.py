"""Tails of the distributions that thresholds come from, in a few lines, so that drift needs no scipy to run.

Held against scipy in the tests. Regularised incomplete gamma and beta functions by series and continued fraction with
the modified Lentz method (Press et al., Numerical Recipes, 3rd ed., 6.2 and 6.4).
"""

from __future__ import annotations

import math

_TINY = 1e-300
_PRECISION = 1e-14
_TERMS_MAX = 10_000


def gamma_survival(shape: float, x: float) -> float:
    """P(X > x) of a gamma variable with scale 1: the regularised upper incomplete gamma function Q(shape, x)."""
    assert shape > 0, f"shape={shape}"
    if x <= 0:
        return 1.0
    front = math.exp(shape * math.log(x) - x - math.lgamma(shape))
    if x < shape + 1:
        term = total = 1.0 / shape
        for n in range(1, _TERMS_MAX):
            term *= x / (shape + n)
            total += term
            if term < total * _PRECISION:
                break
        return max(0.0, 1.0 - total * front)
    b = x + 1 - shape
    c, d = 1 / _TINY, 1 / b
    fraction = d
    for n in range(1, _TERMS_MAX):
        a = -n * (n - shape)
        b += 2
        d = 1 / _away_from_zero(a * d + b)
        c = _away_from_zero(b + a / c)
        fraction *= d * c
        if abs(d * c - 1) < _PRECISION:
            break
    return front * fraction


def chi2_survival(x: float, freedom: float) -> float:
    """P(X > x) of a chi-squared variable; ``freedom`` need not be whole."""
    return gamma_survival(freedom / 2, x / 2)


def chi2_quantile(survival: float, freedom: float) -> float:
    """The x with ``chi2_survival(x, freedom) == survival``, by bisection to ten digits."""
    assert 0 < survival < 1, f"survival={survival}"
    low, high = 0.0, freedom + 10.0
    while chi2_survival(high, freedom) > survival:
        low, high = high, high * 2
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if chi2_survival(middle, freedom) > survival else (low, middle)
    return high


def normal_survival(z: float) -> float:
    """P(Z > z) of a standard normal variable."""
    return math.erfc(z / math.sqrt(2)) / 2


def normal_quantile(survival: float) -> float:
    """The z with ``normal_survival(z) == survival``, by bisection."""
    low, high = -40.0, 40.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if normal_survival(middle) > survival else (low, middle)
    return high


def student_survival(t: float, freedom: float) -> float:
    """P(T > t) of Student's t with ``freedom`` degrees."""
    tail = _beta(freedom / 2, 0.5, freedom / (freedom + t * t)) / 2
    return tail if t >= 0 else 1 - tail


def student_quantile(survival: float, freedom: float) -> float:
    """The t with ``student_survival(t, freedom) == survival``, by bisection."""
    low, high = -1.0, 1.0
    while student_survival(high, freedom) > survival:
        high *= 2
    while student_survival(low, freedom) < survival:
        low *= 2
    while high - low > 1e-10 * max(1.0, abs(high)):
        middle = (low + high) / 2
        low, high = (middle, high) if student_survival(middle, freedom) > survival else (low, middle)
    return high


def _beta(a: float, b: float, x: float) -> float:
    """Regularised incomplete beta function I_x(a, b)."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    fraction = d
    for n in range(1, _TERMS_MAX):
        step = n * (b - n) * x / ((a + 2 * n - 1) * (a + 2 * n))
        d = 1 / _away_from_zero(1 + step * d)
        c = _away_from_zero(1 + step / c)
        fraction *= d * c
        step = -(a + n) * (a + b + n) * x / ((a + 2 * n) * (a + 2 * n + 1))
        d = 1 / _away_from_zero(1 + step * d)
        c = _away_from_zero(1 + step / c)
        fraction *= d * c
        if abs(d * c - 1) < _PRECISION:
            break
    return front * fraction / a


def _away_from_zero(x: float) -> float:
    return x if abs(x) > _TINY else _TINY
