"""Callers of decide-and-wait, open loop, a process of its own: request i leaves at ``begin + i / rate``, come what may.

A round trip is counted from the intended moment to the last byte of the answer. It talks JSON lines as ``generator``:
one when it is ready, then it reads the time to begin (Unix seconds), and the result.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from collections import Counter
from typing import Any

from loadtests.payloads import payments
from loadtests.timing import Latencies

CONNECTIONS_MAX = 400
ANSWER_S_MAX = 30.0


class Caller:
    """Sends, over connections that are kept, and counts what comes back."""

    def __init__(self, host: str, port: int, secret: str, deadline_ms: int) -> None:
        self._host, self._port = host, port
        self._head = (
            f"POST /v1/decide HTTP/1.1\r\nhost: {host}:{port}\r\nauthorization: Bearer {secret}\r\n"
            f"content-type: application/json\r\nweir-deadline-ms: {deadline_ms}\r\ncontent-length: "
        ).encode()
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._open = asyncio.Semaphore(CONNECTIONS_MAX)
        self.round_trips = Latencies()
        self.answers: Counter[str] = Counter()

    async def call(self, body: bytes, due_s: float, is_measured: bool) -> None:
        """One request and its answer."""
        async with self._open:
            try:
                status = await asyncio.wait_for(self._answered(body), ANSWER_S_MAX)
            except (OSError, EOFError, TimeoutError) as error:
                status = type(error).__name__
        self.answers[status] += 1
        if is_measured:
            self.round_trips.add(time.time() - due_s)

    async def _answered(self, body: bytes) -> str:
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(self._host, self._port)
        writer.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        self._idle.append((reader, writer))
        return head.split(b" ", 2)[1].decode()

    def close(self) -> None:
        """Drop the connections."""
        for _, writer in self._idle:
            writer.close()


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.gateway_caller", description="Ask for decisions.")
    add = parser.add_argument
    add("--host", required=True)
    add("--port", type=int, required=True)
    add("--token", required=True)
    add("--deadline-ms", type=int, required=True)
    add("--run", required=True, help="begins every event id")
    add("--count", type=int, required=True)
    add("--rate", type=float, required=True)
    add("--skip-s", type=float, default=0.0)
    add("--place", type=int, nargs=2, default=(0, 0))
    add("--seed", type=int, default=1)
    return parser.parse_args()


async def call_all(given: argparse.Namespace, values: list[bytes], begin_s: float) -> Caller:
    """Every request at its moment; returns when all are answered."""
    caller = Caller(given.host, given.port, given.token, given.deadline_ms)
    tasks = []
    for number, value in enumerate(values):
        due_s = begin_s + number / given.rate
        if (early_s := due_s - time.time()) > 0:
            await asyncio.sleep(early_s)
        is_measured = number >= given.skip_s * given.rate
        tasks.append(asyncio.create_task(caller.call(value, due_s, is_measured)))
    await asyncio.gather(*tasks)
    caller.close()
    return caller


def main() -> None:
    """Encode, wait for the word, call, report."""
    given = parse()
    load = payments(given.run, given.count, tuple(given.place), given.seed)
    gc.freeze()
    _say({"ready": len(load.values), "next_place": load.next_place})
    begin_s = float(sys.stdin.readline())
    cpu_before_s = time.process_time()
    caller = asyncio.run(call_all(given, load.values, begin_s))
    _say(
        {
            "answers": caller.answers,
            "round_trips": caller.round_trips.histogram().encode().decode(),
            "cpu_s": time.process_time() - cpu_before_s,
        }
    )


def _say(facts: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
