"""Being fenced means that another process has taken over, unless it was the broker that gave up what took too long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka.errors import ProducerFenced
from test_webhook_subscriptions import subscription

from services.webhooks import subscription_log
from services.webhooks.desk import Settlement
from services.webhooks.subscription_log import SubscriptionLog


class Fencing:
    """A producer whose transactions end like those of one that was fenced."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        yield
        raise ProducerFenced


@pytest.mark.parametrize(("patience_ms", "raised"), [(60_000, ProducerFenced), (0, TimeoutError)])
def test_a_transaction_that_the_broker_gave_up_is_no_other_process(
    patience_ms: int, raised: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription_log, "_TRANSACTION_TIMEOUT_MS", patience_ms)
    log = SubscriptionLog(subscription(), "127.0.0.1:1")
    monkeypatch.setattr(log, "_producer", Fencing())
    with pytest.raises(raised):
        asyncio.run(log.write(Settlement({}, [])))
