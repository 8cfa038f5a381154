"""A real stage process that copies its input: the runtime, the log, signals, health and watchdog of every service.

``COPY_TOPICS=input,output``, ``COPY_NAME`` (group); ``COPY_FAULT=two_steps`` commits outputs and offsets apart, as a
consumer without transactions does, and is killed between the two once (``COPY_DIED`` is the file that says so).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from services.mesh.adapters import process
from services.mesh.adapters.kafka_log import KafkaLog
from services.mesh.adapters.process import Parts, run_stage
from services.mesh.ports import CommittedOffset, InRecord, OutRecord
from services.mesh.settings import Environment
from services.mesh.stage import Emit, Handler, Stateless
from services.mesh.topics import Topic
from services.mesh.topology import Stage

FAULT = os.environ.get("COPY_FAULT", "")


class Copy(Stateless):
    def __init__(self, output: str) -> None:
        self._output = output

    def step(self, batch: Sequence[InRecord]) -> list[Emit]:
        return [Emit(self._output, r.key, r.value, r.partition, n) for n, r in enumerate(batch)]


class TwoSteps(KafkaLog):
    def commit(self, outputs: Sequence[OutRecord], offsets: Mapping[int, CommittedOffset]) -> None:
        super().commit(outputs, {})
        died = Path(os.environ["COPY_DIED"])
        if not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        super().commit([], offsets)


def stage() -> Stage:
    source, target = (
        Topic(name=name, holds="copies", schemas=(), key="any", owner="tests")
        for name in os.environ["COPY_TOPICS"].split(",")
    )
    return Stage(name=os.environ["COPY_NAME"], service="tests", consumes=source, produces=(target,), marked=False)


def wire(parts: Parts, environment: Environment) -> Callable[[], Handler]:
    return lambda: Copy(os.environ["COPY_TOPICS"].split(",")[1])


if __name__ == "__main__":
    if FAULT == "two_steps":
        process.KafkaLog = TwoSteps  # type: ignore[misc]
    run_stage(stage(), wire)
