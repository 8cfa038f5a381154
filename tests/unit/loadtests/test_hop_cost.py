"""The hops' cost is measured on the whole way of an event: what is lost on it is seen."""

from __future__ import annotations

import pytest

from loadtests import hop_cost
from services.mesh.topology import EVENT_CHAIN


def test_every_payment_passes_every_hop_of_the_chain(capsys: pytest.CaptureFixture[str]) -> None:
    assert hop_cost.main(["--events", "400", "--batch", "50"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*(stage.name for stage in EVENT_CHAIN), "all"]
    assert all("400 records on" in line for line in lines[:-1])


def test_a_hop_that_loses_a_record_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = hop_cost.appended
    monkeypatch.setattr(hop_cost, "appended", lambda outputs, partitioner: whole(outputs[1:], partitioner))
    assert hop_cost.main(["--events", "400", "--batch", "50"]) == 1
