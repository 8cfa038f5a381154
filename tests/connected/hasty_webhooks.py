"""Webhooks that commit what they have read instead of what was taken: the control of ``test_webhooks.py``."""

from __future__ import annotations

from services.webhooks import __main__ as webhooks
from services.webhooks.progress import Mark, Progress, fresh


def hasty(self: Progress) -> Mark:
    return fresh(self.position)


if __name__ == "__main__":
    setattr(Progress, "mark", hasty)  # noqa: B010  a method is not assigned to
    webhooks.main()
