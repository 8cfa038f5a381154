"""A released model that answers inside the controller, for events that it did not score at the time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from services.mesh.bundle_parts import Bundle
from services.mesh.calibration import calibrated
from services.mesh.manifest import parse
from services.retraining.train import margins_of


class BundleJudge:
    """A verified bundle; the same arithmetic as scoring's, from the same bytes. Loaded when it is first asked."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._manifest = parse(bundle.manifest)
        self._margins: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]] | None = None

    @property
    def cut_off_ms(self) -> int:
        """No label observed later was used to make it."""
        return self._manifest.label_cut_off_ms

    def score(self, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Calibrated probabilities of rows, float32, shape (n, f): float64, shape (n,)."""
        if self._margins is None:
            self._margins = margins_of(self.bundle.model, self._manifest.iteration_range)
        return calibrated(self._manifest.calibration, self._margins(np.ascontiguousarray(rows)))
