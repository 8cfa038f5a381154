"""``weir policy check``: a policy that is still a file."""

from __future__ import annotations

import argparse
from pathlib import Path

from services.cli.shared import add_json, print_json, print_line
from services.decisions.policy import Policy, load_policy
from services.mesh.errors import Fatal
from services.mesh.feature_set import pinned_feature_set


def fill(parser: argparse.ArgumentParser) -> None:
    """``weir policy check``."""
    parser.epilog = "example: weir policy check policy.yaml"
    parser.add_argument("file", type=Path, metavar="FILE", help="the policy, YAML")
    add_json(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Load it as the service would."""
    policy, _ = load_file(given.file)
    fused = len(policy.fuses.names)
    if given.json:
        print_json(
            {
                "policy_version": policy.version,
                "rules": len(policy.rules),
                "rules_with_fuse": fused,
                "reads": sorted(policy.reads),
            }
        )
    else:
        print_line(
            f"{given.file}: version {policy.version}, {len(policy.rules)} rules, {fused} with a fuse, no mistake"
        )
    return 0


def load_file(file: Path) -> tuple[Policy, str]:
    """A policy file, loaded as the service would."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise Fatal(f"{file}: {error.strerror}; name a policy file, such as schemas/payments/policy.yaml") from None
    except UnicodeDecodeError:
        raise Fatal(f"{file}: is not text in UTF-8; a policy is YAML") from None
    return load_policy(text, str(file), pinned_feature_set().names), text
