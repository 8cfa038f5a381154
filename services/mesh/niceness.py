"""Who comes first where cores are few: decisions, which have a latency budget, at niceness 0. All others step back.

Beside a busy process at 0, Linux gives one at 5 a third of its share of a core, and one at 10 a ninth.
"""

from __future__ import annotations

from typing import Final

AFTER_DECISIONS: Final = 5  # a freshness budget: outcomes, labels, review cases, what other systems are told
LAST: Final = 10  # derived data, pages, trainings: late is no harm
