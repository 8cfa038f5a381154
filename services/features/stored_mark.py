"""What stands beside a partition's stored state: whose it is, and what its owner needs to go on from there.

The mark names the view and the feature set by 8 bytes of their hash. State of another feature set counts as no state:
whoever claims the partition clears it and rebuilds it from the log. So a changed declaration needs no hand, leaves
nothing of the old set behind, and never needs room for both.
"""

from __future__ import annotations

from typing import NamedTuple

from services.features.kernel import View
from services.features.occupancy import Occupancy
from services.mesh.errors import Fatal
from services.mesh.watermark import Marks


class Going(NamedTuple):
    """What goes on from a mark."""

    marks: Marks
    occupancy: Occupancy


def mark_text(view: View, marks: str, occupancy: Occupancy) -> str:
    """The metadata of a mark; ``marks`` as ``Marks.to_metadata`` has them."""
    return f"{view.store_mark.hex()} {marks} {occupancy.to_text()}"


def read_mark(view: View, partitions: int, text: str) -> Going | None:
    """The reverse; None when the state beside it is none of this view and feature set."""
    if not text.startswith(view.store_mark.hex()):
        return None
    try:
        _, marks, counts = text.split(" ")
        return Going(Marks.from_metadata(marks), view.new_occupancy(partitions, counts))
    except (ValueError, Fatal):  # not what was written: the store is a cache, so this costs a rebuild
        return None
