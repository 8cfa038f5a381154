"""A changed feature set on a real Redis: the state is rebuilt from the log, and nothing of the old set stays."""

from __future__ import annotations

from contextlib import closing

import pytest

from services.features.layout import unpack
from services.mesh.adapters.redis_store import RedisStore, connect
from services.platform.servers import Servers
from tests.unit.features.owned_bench import FEATURES, OTHER_FEATURES, Bench, check_exact

pytestmark = pytest.mark.connected


def test_a_changed_feature_set_takes_over_and_leaves_nothing_of_the_old(servers: Servers, own_name: str) -> None:
    with closing(connect(servers.endpoints.redis)) as client:
        bench = Bench(wait_ms_max=0)
        bench.make_store = lambda: RedisStore(client, own_name)
        bench.process(features=OTHER_FEATURES).take(bench.feed("a", "b", "a"))
        process = bench.process()
        process.catch_up()
        assert process.replayed() == 3
        records = bench.feed("a", "c")
        check_exact(bench, records, process.take(records))
        values = {key: client.get(key) for key in client.scan_iter(match=f"{{{own_name}:*", _type="string")}
        view = FEATURES.view("customer")
        events = {key.rpartition(b":")[2]: unpack(view, value).exact_events for key, value in values.items()}
        assert events == {b"a": 3, b"b": 1, b"c": 1}
