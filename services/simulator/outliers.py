"""Event times that nobody around them shares: a unit mixed up, a clock set wrong, a byte flipped. Pure.

They are sent like any other record, for ingestion to judge. But the sender's own clock must not follow them, or one
bad line makes the rest of its file look late.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Ints = NDArray[np.int64]

AHEAD_MS_MAX = 86_400_000  # as far as ingestion lets one record move its clock
_NEIGHBOURS = 5  # on either side: up to five bad lines in a row are seen through


def believable_ms(event_time_ms: Ints) -> Ints:
    """``event_time_ms`` (shape (n,)) with each time that is far ahead of its neighbours' median replaced by that."""
    reach = min(_NEIGHBOURS, len(event_time_ms) - 1)
    if reach < 1:
        return event_time_ms
    windows = sliding_window_view(np.pad(event_time_ms, reach, mode="reflect"), 2 * reach + 1)
    middle = np.partition(windows, reach, axis=1)[:, reach]
    limit = np.minimum(middle, 2**62) + AHEAD_MS_MAX  # a sum that fits an int64 whatever a file holds
    return np.where(event_time_ms > limit, middle, event_time_ms)
