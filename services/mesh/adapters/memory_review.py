"""The review queue's twin in memory: for tests, and for a mesh in one process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from threading import Lock

from services.mesh.review import SHELVES, Filed, Shelf


class MemoryReviewQueue:
    """Implements ``services.mesh.review_desk.ReviewQueue``."""

    def __init__(self) -> None:
        self._cases: dict[str, Filed] = {}
        self._marks: dict[str, str] = {}
        self._turn = Lock()

    def page(self, shelf: Shelf, start: int, count: int) -> list[Filed]:
        """See the port."""
        found = [filed for filed in self._cases.values() if filed.shelf == shelf]
        found.sort(
            key=lambda filed: (
                (-filed.case.closed_time_ms, filed.case.case_id) if shelf == "closed" else filed.case.order
            )
        )
        return found[start : start + count]

    def find(self, case_ids: Sequence[str]) -> list[Filed | None]:
        """See the port."""
        return [self._cases.get(case_id) for case_id in case_ids]

    def swap(self, changes: Sequence[Filed]) -> list[bool]:
        """See the port."""
        with self._turn:
            return [self._swap(filed) for filed in changes]

    def drop(self, case_ids: Sequence[str]) -> None:
        """See the port."""
        for case_id in case_ids:
            self._cases.pop(case_id, None)

    def held(self) -> dict[str, tuple[str, int]]:
        """See the port."""
        return {
            case_id: (filed.claim.analyst, filed.claim.until_ms)
            for case_id, filed in self._cases.items()
            if filed.claim
        }

    def counts(self) -> dict[Shelf, int]:
        """See the port."""
        found = Counter(filed.shelf for filed in self._cases.values())
        return {shelf: found[shelf] for shelf in SHELVES}

    def marks(self) -> dict[str, str]:
        """See the port."""
        return dict(self._marks)

    def set_marks(self, marks: Mapping[str, str]) -> None:
        """See the port."""
        self._marks |= marks

    def clear(self) -> None:
        """See the port."""
        self._cases.clear()
        self._marks.clear()

    def _swap(self, filed: Filed) -> bool:
        case_id = filed.case.case_id
        before = self._cases.get(case_id)
        if (before.version if before else 0) != filed.version:
            return False
        self._cases[case_id] = replace(filed, version=filed.version + 1)
        return True
