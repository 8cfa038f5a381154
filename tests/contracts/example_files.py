"""Example messages on disk: ``schemas/**/examples/<record>.v1/<case>.json``, and ``<record>.good.jsonl`` for raw input.

They are plain JSON. Bytes, which JSON lacks, are written for people: a vector as its features by name, anything else
in base64.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np

import schemas
from services.mesh.feature_set import pinned_feature_set

SCHEMAS = Path(schemas.__file__).parent
NAMES = pinned_feature_set().names
VECTORS = ("vector", "customer_vector")


def schema_files() -> list[str]:
    """Every ``.avsc``, as a path below ``schemas/``."""
    return sorted(str(path.relative_to(SCHEMAS)) for path in SCHEMAS.rglob("*.avsc"))


def directory(file: str) -> Path:
    """Where the examples of schema ``file`` are."""
    path = SCHEMAS / file
    return path.parent / "examples" / path.name.removesuffix(".avsc")


def examples(file: str) -> dict[str, dict[str, Any]]:
    """Case -> record of schema ``file``, as Python sees it."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(directory(file).glob("*.json"))}
    record = directory(file).name.rpartition(".v")[0]
    lines = directory(file).with_name(f"{record}.good.jsonl")
    if lines.exists():
        written = [json.loads(line) for line in lines.read_text().splitlines()]
        # An id may be left out in JSON, where it is then derived; Avro has it.
        found |= {f"line-{number}": event for number, event in enumerate(written, 1) if "event_id" in event}
    return {case: _to_record(value) for case, value in found.items()}


def write_example(file: str, case: str, record: dict[str, Any]) -> None:
    """Save ``record`` as an example of schema ``file``."""
    path = directory(file) / f"{case}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_to_json(record), indent=2, ensure_ascii=False) + "\n")


def _to_record(value: Any, name: str = "") -> Any:
    if name in VECTORS:
        assert tuple(value) == NAMES[: len(value)], f"{name}: other features than schemas/payments/feature_set.json"
        return np.array(list(value.values()), dtype="<f4").tobytes()
    if isinstance(value, dict):
        if set(value) == {"base64"}:
            return base64.b64decode(value["base64"], validate=True)
        return {key: _to_record(inner, key) for key, inner in value.items()}
    return [_to_record(inner) for inner in value] if isinstance(value, list) else value


def _to_json(value: Any, name: str = "") -> Any:
    if name in VECTORS:
        shortest = [float(str(number)) for number in np.frombuffer(value, dtype="<f4")]  # 0.1, not 0.10000000149
        return dict(zip(NAMES, shortest, strict=False))
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {key: _to_json(inner, key) for key, inner in value.items()}
    return [_to_json(inner) for inner in value] if isinstance(value, list) else value
