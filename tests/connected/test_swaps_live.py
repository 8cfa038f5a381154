"""Hot swaps of the real scoring process: nothing lost, doubled or mixed. The thousand are in ``loadtests.swaps``."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import pytest

from loadtests.swaps import measure
from services.platform.servers import running

pytestmark = pytest.mark.connected


def test_swaps_under_load_lose_double_and_mix_nothing() -> None:
    path = Path(tempfile.mkdtemp(prefix="weir-swaps-"))
    environ = {name: value for name, value in os.environ.items() if not re.fullmatch("WEIR_[A-Z]+_PORT", name)}
    with running(path / "data", environ=environ) as servers:
        found = measure(servers.endpoints.kafka, path, swaps=60, rate=300.0, swaps_per_s=10.0, quiet_s=1.0)
    assert found.is_clean, found
    assert found.swaps >= 20, "some come so fast that one batch sees both"
    assert found.served >= 2
