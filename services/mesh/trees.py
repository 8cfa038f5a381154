"""xgboost without scikit-learn: ``from services.mesh.trees import xgboost``.

xgboost imports scikit-learn wherever that is installed, as it is for tests, and scipy.stats with it. None of it is used
here, and every process that only wants to score would pay for it: measured 1.1 s of processor time, 70 MB.
"""

from __future__ import annotations

import sys

if "sklearn" in sys.modules:
    import xgboost
else:
    sys.modules["sklearn"] = None  # type: ignore[assignment]  # to an import, as if it were not installed
    try:
        import xgboost
    finally:
        del sys.modules["sklearn"]

__all__ = ["xgboost"]
