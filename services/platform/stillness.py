"""When a drain is over: everything decided, or nothing moves any more. Pure."""

from __future__ import annotations

# A stage that was killed is back and owns its partitions after some 5 s; on a busy machine after 15.
STILL_S_MAX = 10.0
STILL_S_MAX_RESTARTING = 60.0
# Records can be in no stage's input for a moment: written, and their transaction not yet committed.
ZEROS_NEEDED = 2


class Stillness:
    """Fed with what is left and how many decisions there are; says when waiting has no point."""

    def __init__(self, now_s: float) -> None:
        self._moved_s = now_s
        self._before: tuple[int, int] | None = None
        self._zeros = 0

    def is_over(self, now_s: float, lag: int, decisions: int, *, all_ready: bool) -> bool:
        """True when ``lag`` stays 0, or when neither number has moved for too long."""
        if (lag, decisions) != self._before:
            self._moved_s, self._before = now_s, (lag, decisions)
        self._zeros = 0 if lag else self._zeros + 1
        still_s_max = STILL_S_MAX if all_ready else STILL_S_MAX_RESTARTING
        return self._zeros >= ZEROS_NEEDED or now_s - self._moved_s > still_s_max
