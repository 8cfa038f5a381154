"""What analysts see of decisions: whose payment, when, and its score."""

from __future__ import annotations

from collections.abc import Sequence

from services.mesh.codec import schema
from services.mesh.columns import Columns, Spans
from services.mesh.topics import DECISIONS
from services.simulator.analysts import Analysts


class ScoreReader:
    """Reads decisions for ``analysts``."""

    def __init__(self, analysts: Analysts) -> None:
        self._analysts = analysts
        self._columns = Columns(schema(DECISIONS.schemas[0]), ("customer_id", "event_time_ms", "score"))

    def look(self, partition: int, end: int, values: Sequence[bytes]) -> None:
        """Show them ``values`` of ``partition``, which end before offset ``end``; what does not decode is left out."""
        table = self._columns.read(values)
        sound, customers = table.sound, table.spans["customer_id"]
        self._analysts.decided(
            table.texts(Spans(customers.start[sound], customers.length[sound])),
            table.numbers["event_time_ms"][sound],
            table.numbers["score"][sound],
        )
        self._analysts.offsets[partition] = end
