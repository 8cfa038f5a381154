"""The schemas of all topics in the registry, under the ids that the services were built with."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from services.mesh.adapters.registry import Registry
from services.mesh.codec import pinned_ids, schema
from services.mesh.errors import Fatal
from services.mesh.topics import TOPICS


def register_schemas(
    registry: Registry, pinned: Mapping[str, int] | None = None, note: Callable[[str, int], None] | None = None
) -> dict[str, int]:
    """Register every topic's schemas, in the order of the pins; Fatal when the registry gives another id than pinned.

    With ``note`` the ids are reported instead of compared: that is how they are pinned.
    """
    pins = pinned_ids() if pinned is None else pinned
    subjects = {file: f"{topic.name}-value" for topic in TOPICS for file in topic.schemas}
    ids: dict[str, int] = {}
    for file in sorted(subjects, key=lambda name: pins.get(name, len(pins))):
        ids[file] = registry.register(subjects[file], schema(file).text, f"schemas/{file}")
        if note is not None:
            note(file, ids[file])
        elif ids[file] != pins[file]:
            raise Fatal(
                f"schemas/{file} has id {ids[file]} in this registry, schemas/ids.json pins {pins[file]}: use a "
                "registry of its own, or pin this one's ids (weir schemas register --pin) and deploy services with them"
            )
    return ids


def pin_text(ids: Mapping[str, int]) -> str:
    """``schemas/ids.json`` for ``ids``."""
    return json.dumps(dict(sorted(ids.items(), key=lambda item: item[1])), indent=2) + "\n"
