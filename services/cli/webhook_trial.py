"""``weir webhooks test``: one signed message that is no decision."""

from __future__ import annotations

import argparse
import asyncio
import os
from typing import Any

from services.cli.acting import wall_ms
from services.cli.shared import add_file, add_json, add_mesh, file_of, print_json, print_line
from services.mesh.errors import Fatal
from services.mesh.settings import Environment
from services.webhooks.message import trial_body
from services.webhooks.posting import Poster
from services.webhooks.settings import FILE_NAME, WebhookSettings
from services.webhooks.subscription import Subscription
from services.webhooks.subscription_file import load_subscriptions
from services.webhooks.tls import trust
from services.webhooks.verdict import Verdict

_WAIT_S = 10.0


def fill(parser: argparse.ArgumentParser) -> None:
    """``weir webhooks test``."""
    parser.epilog = "example: weir webhooks test bank"
    parser.set_defaults(run=run)
    add_mesh(parser)
    add_json(parser)
    add_file(parser, FILE_NAME)
    parser.add_argument("name", metavar="NAME")


def run(given: argparse.Namespace) -> int:
    """Send it; Fatal when it is not taken."""
    one = load_subscriptions(file_of(given)).named(given.name)
    now_ms = wall_ms()

    async def post() -> Any:
        poster = poster_of(one)
        try:
            return await poster.post(f"msg_test_{now_ms}", trial_body(one.name, now_ms))
        finally:
            await poster.close()

    answer = asyncio.run(post())
    taken = answer.verdict is Verdict.TAKEN
    if given.json:
        print_json({"name": one.name, "status": answer.status, "taken": taken, "answer": str(answer)})
        return 0 if taken else 1
    if not taken:
        raise Fatal(f"webhook {one.name}: {one.url} answered {answer}; a receiver takes a message by answering 2xx")
    print_line(f"{one.name} took it: {answer}")
    return 0


def poster_of(one: Subscription) -> Poster:
    """As the service sends, one at a time; told whom to trust as the service is. Raises Fatal."""
    environment = Environment(os.environ)
    settings = WebhookSettings.read(environment)
    environment.check()
    return Poster(one, _WAIT_S, 1, trust(settings.ca_file))
