"""Takes Weir's webhooks: checks who sent them, drops repeats, and hands each decision on once.

Copy this file and change `act`. It needs nothing but Python; in other languages use a library for Standard Webhooks.

    SECRET=whsec_... PORT=9000 python webhook_receiver.py
    weir webhooks add mine http://127.0.0.1:9000/ --allow-private    # prints the secret

Answers: 204 when the decision is taken, also when it was before; 401 for a signature that is wrong or too old; 400 for
what is no message. Weir sends again after 5xx, 408, 425, 429 and no answer; after any other 4xx it gives the decision
up and lists it in `weir webhooks dead`. So answer 2xx only when the decision is safe, and within 10 s.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOLERANCE_S = 300  # a request that somebody overheard cannot be sent again for longer
BODY_BYTES_MAX = 1 << 20
REMEMBERED_S = 130 * 86_400  # a decision stays in Weir's log for 120 days, and can be sent again for as long


def act(decision: dict[str, Any]) -> None:
    """What a decision leads to. It may come again after a crash, so keep it idempotent on the decision's identity."""
    logging.info("%s %s %s", decision["action"], decision["customer_id"], decision["event_id"])


def is_genuine(headers: Mapping[str, str], body: bytes, secrets: list[str], now_s: float) -> bool:
    """Whether one of ``secrets`` signed this, lately. Header names in lower case."""
    message_id, sent_s = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not sent_s.isdecimal() or abs(now_s - int(sent_s)) > TOLERANCE_S:
        return False
    content = f"{message_id}.{sent_s}.".encode() + body
    keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in secrets]
    wanted = [base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode() for key in keys]
    parts = headers.get("webhook-signature", "").split()
    given = [part.removeprefix("v1,") for part in parts if part.startswith("v1,")]
    # In constant time, or its length would tell a forger how much of a guess was right.
    return any(hmac.compare_digest(one.encode(), other.encode()) for one in wanted for other in given)


class Inbox:
    """Ids of the messages that were handed on, in a file of SQLite's."""

    def __init__(self, path: str) -> None:
        self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._turn = threading.Lock()
        self._file.execute("CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY, at_s REAL NOT NULL) WITHOUT ROWID")
        self._file.execute("DELETE FROM seen WHERE at_s < ?", (time.time() - REMEMBERED_S,))

    def take(self, message_id: str, message: dict[str, Any]) -> None:
        """Hand it on, unless it was before; noted afterwards, so that a crash in between loses nothing."""
        with self._turn:
            if self._file.execute("SELECT 1 FROM seen WHERE id = ?", (message_id,)).fetchone() is None:
                if message["type"] == "decision.made":
                    act(message["data"])
                self._file.execute("INSERT INTO seen VALUES (?, ?)", (message_id, time.time()))


def server_of(port: int, secrets: list[str], inbox: Inbox) -> ThreadingHTTPServer:
    """Serves on loopback; put a proxy that speaks TLS before it."""

    class Handler(BaseHTTPRequestHandler):
        """One request."""

        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_POST(self) -> None:
            """A webhook."""
            self.send_response(self._status())
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _status(self) -> int:
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal() or int(length) > BODY_BYTES_MAX:
                self.close_connection = True
                return 413
            body = self.rfile.read(int(length))
            headers = {name.lower(): value for name, value in self.headers.items()}
            if not is_genuine(headers, body, secrets, time.time()):
                return 401
            try:
                inbox.take(headers["webhook-id"], json.loads(body))
            except (ValueError, KeyError, TypeError) as error:
                logging.warning("no message of Weir's: %r", error)
                return 400
            except Exception:
                logging.exception("not taken; Weir sends it again")
                return 503
            return 204

        def log_message(self, format: str, *args: Any) -> None:
            """Each request is no news."""

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    # Two secrets, divided by a comma, while one replaces the other.
    server = server_of(
        int(os.environ.get("PORT", "9000")),
        os.environ["SECRET"].split(","),
        Inbox(os.environ.get("SEEN", "webhook_receiver.sqlite")),
    )
    server.serve_forever()
