"""A gateway that answers before the broker has acknowledged: what the real one must not be."""

from __future__ import annotations

import logging
import sys

from services.gateway.__main__ import main
from services.gateway.publishing import Delivery, Publisher


async def at_once(self: Publisher, delivery: Delivery, limit_s: float) -> None:
    """As if it had been acknowledged."""


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    Publisher._acknowledged = at_once  # type: ignore[method-assign]
    main()
