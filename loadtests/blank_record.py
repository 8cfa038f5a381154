"""A record of any contract with nothing in it: for who cares about a few of its fields."""

from __future__ import annotations

from typing import Any

from services.mesh.codec import schema


def blank_record(file: str) -> dict[str, Any]:
    """The least value of every field of the contract ``file``: empty, null, the first symbol, 0."""
    return {field["name"]: _blank(field["type"]) for field in schema(file).fields}


def _blank(kind: Any) -> Any:
    match kind:
        case "string":
            return ""
        case "bytes":
            return b""
        case list():
            return None
        case {"type": "array"}:
            return []
        case {"type": "enum", "symbols": [first, *_]}:
            return first
        case _:
            return 0
