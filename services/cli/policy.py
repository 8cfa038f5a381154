"""``weir policy``: its actions. Some need no mesh, one months of decisions: each is imported when it is asked for."""

from __future__ import annotations

from typing import Final

from services.cli.late_parser import LateParser

_ACTIONS: Final = (
    ("check", "policy_file:fill", "say every mistake in a file, with its line"),
    (
        "backtest",
        "policy_backtest:fill",
        "try a file on everything that was decided: what would change, in all and per rule",
    ),
    (
        "shadow",
        "policy_moves:fill_shadow",
        "let a file judge every event beside the policy in force, and decide none",
    ),
    ("publish", "policy_moves:fill_publish", "let a file decide: for a share of the customers, or for all"),
    ("rollback", "policy_moves:fill_rollback", "end a rollout, or return to the policy before this one"),
    ("retire", "policy_moves:fill_retire", "stop a policy that runs beside or for a share"),
    ("list", "policy_moves:fill_list", "every move, oldest first"),
    ("show", "policy_moves:fill_show", "one policy's moves, its last diff and its text"),
)


def fill(parser: LateParser) -> None:
    """``weir policy``."""
    parser.epilog = "example: weir policy check schemas/payments/policy.yaml"
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for name, place, text in _ACTIONS:
        actions.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", filled_by=f"services.cli.{place}"
        )
