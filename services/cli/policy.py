"""``weir policy``: check a policy file, put it in force, see which were."""

from __future__ import annotations

import argparse
import getpass
from pathlib import Path

from services.cli.reading import journal
from services.cli.shared import Commands, add_json, add_mesh, endpoints_of, print_json, print_line, shown_time
from services.decisions.policy import Policy, load_policy
from services.mesh.errors import Fatal
from services.mesh.feature_set import pinned_feature_set
from services.mesh.topics import POLICIES
from services.platform.deploy import publish_policy


def add(commands: Commands) -> None:
    """``weir policy``."""
    parser = commands.add_parser(
        "policy", help="check, publish, list", epilog="example: weir policy check schemas/payments/policy.yaml"
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    check = actions.add_parser(
        "check", help="every mistake in a file, with its line", epilog="example: weir policy check policy.yaml"
    )
    check.set_defaults(run=run_check)
    publish = actions.add_parser(
        "publish",
        help="put a file in force in the running mesh",
        epilog="example: weir policy publish policy.yaml --why 'stricter at night after case 1187'",
    )
    publish.add_argument("--why", required=True, metavar="TEXT", help="the reason, kept in the journal")
    publish.add_argument("--author", default=None, metavar="A", help="who (default: you)")
    publish.set_defaults(run=run_publish)
    listing = actions.add_parser(
        "list", help="what was put in force, oldest first", epilog="example: weir policy list --json"
    )
    listing.set_defaults(run=run_list)
    for action in (check, publish):
        action.add_argument("file", type=Path, metavar="FILE", help="the policy, YAML")
    for action in (publish, listing):
        add_mesh(action)
    for action in (check, publish, listing):
        add_json(action)


def run_check(given: argparse.Namespace) -> int:
    """Load it as the service would."""
    policy, _ = _load(given.file)
    if given.json:
        print_json(
            {"policy_version": policy.version, "rules": len(policy.declared.rules), "reads": sorted(policy.reads)}
        )
    else:
        print_line(f"{given.file}: version {policy.version}, {len(policy.declared.rules)} rules, no mistake")
    return 0


def run_publish(given: argparse.Namespace) -> int:
    """Check it, then append it to the journal that every decider follows."""
    if not given.why.strip():
        raise Fatal("--why is empty: say why, the journal keeps it")
    kafka = endpoints_of(given).kafka
    _, text = _load(given.file)
    version = publish_policy(kafka, text, str(given.file), author=given.author or _user(), why=given.why)
    if given.json:
        print_json({"policy_version": version})
    else:
        print_line(f"{version} is in force from the next batch on")
    return 0


def run_list(given: argparse.Namespace) -> int:
    """The journal."""
    releases = journal(endpoints_of(given).kafka, POLICIES)
    rows = [
        {
            "policy_version": release["policy_version"],
            "published_ms": record.append_time_ms,
            "author": release["author"],
            "why": release["why"],
            "in_force": record is releases[-1][0],
        }
        for record, release in releases
    ]
    if given.json:
        print_json(rows)
        return 0
    for row in rows:
        mark = "*" if row["in_force"] else " "
        print_line(
            f"{mark} {row['policy_version']:28} {shown_time(row['published_ms'])}  {row['author']}: {row['why']}"
        )
    return 0


def _load(file: Path) -> tuple[Policy, str]:
    try:
        text = file.read_text()
    except OSError as error:
        raise Fatal(f"{file}: {error.strerror}; name a policy file, such as schemas/payments/policy.yaml") from None
    except UnicodeDecodeError:
        raise Fatal(f"{file}: is not text in UTF-8; a policy is YAML") from None
    return load_policy(text, str(file), pinned_feature_set().names), text


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        raise Fatal("--author: this user has no name; say who publishes") from None
