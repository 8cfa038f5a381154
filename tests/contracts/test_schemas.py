"""Every contract says what each field means, in which unit, and what null stands for; each hop begins with the last."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import pytest
from example_files import SCHEMAS, schema_files

from services.features.definitions import load_feature_set
from services.mesh.codec import pinned_ids, schema
from services.mesh.feature_set import PINNED, pinned_feature_set
from services.mesh.topics import TOPICS

FILES = schema_files()
# What a number is when its name carries no unit.
NUMBERS_WITHOUT_UNIT = {
    "source_partition": "a partition's number",
    "source_offset": "an offset",
    "from_offset": "an offset",
    "to_offset": "an offset",
    "inexact_records": "a count",
    "decision_offset": "an offset",
    "decision_partition": "a partition's number",
    "verdicts_needed": "a count",
    "canary_percent": "per cent, and says so",
    "percent": "per cent, and says so",
    "records": "a count",
    "threshold": "in the unit of the statistic",
    "split_bucket": "a bucket's number",
    "label_version": "a count",
    "score": "a probability",
    "propensity": "a probability",
    "value": "in the unit of the feature that `feature` names",
    "contribution": "log-odds",
}


def record_fields(node: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of every record inside ``node``."""
    if isinstance(node, list):
        for branch in node:
            yield from record_fields(branch, place)
    elif isinstance(node, dict):
        for field in node.get("fields", ()):
            yield f"{place}.{field['name']}", field
            yield from record_fields(field["type"], f"{place}.{field['name']}")
        yield from record_fields(node.get("items"), place)


def named_types(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, list):
        for branch in node:
            yield from named_types(branch)
    elif isinstance(node, dict):
        if "name" in node and "type" in node and node["type"] in ("record", "enum"):
            yield node
        for inner in (*node.get("fields", ()), node.get("items"), node["type"]):
            if not isinstance(inner, str):
                yield from named_types(inner)


@pytest.mark.parametrize("file", FILES)
def test_every_field_and_type_is_explained(file: str) -> None:
    raw = schema(file).raw
    silent = [place for place, field in record_fields(raw, file) if len(field.get("doc", "")) < 8]
    silent += [f"{file}: {named['name']}" for named in named_types(raw) if len(named.get("doc", "")) < 8]
    assert not silent


@pytest.mark.parametrize("file", FILES)
def test_an_optional_field_says_what_null_means(file: str) -> None:
    for place, field in record_fields(schema(file).raw, file):
        optional = isinstance(field["type"], list) and "null" in field["type"]
        assert optional == ("null:" in field["doc"]), place
        if optional:
            assert field["type"][0] == "null", f"{place}: null first, so that it can be the default"
            assert field.get("default", "none") is None, f"{place}: an optional field defaults to null"


@pytest.mark.parametrize("file", FILES)
def test_a_number_carries_its_unit_in_its_name(file: str) -> None:
    for place, field in record_fields(schema(file).raw, file):
        if field["type"] not in ("int", "long", "float", "double"):
            continue
        name, doc = field["name"], field["doc"]
        assert name.endswith("_ms") == ("milliseconds" in doc), place
        assert name.endswith("_minor") == ("minor units" in doc), place
        assert name.endswith(("_ms", "_minor")) or name in NUMBERS_WITHOUT_UNIT, f"{place}: which unit?"


@pytest.mark.parametrize("file", FILES)
def test_bytes_say_how_they_are_laid_out(file: str) -> None:
    words = ("little-endian", "UBJSON", "Ed25519", "Booster")
    for place, field in record_fields(schema(file).raw, file):
        if field["type"] == "bytes":
            assert any(word in field["doc"] for word in words), place


def test_null_meanings_and_units_would_be_missed() -> None:
    """The checks above look into arrays, unions and nested records."""
    places = [place for file in FILES for place, _ in record_fields(schema(file).raw, file)]
    assert "decision.v1.avsc.contributions.value" in places
    assert "terminal_update.v1.avsc.update.label_version" in places
    assert len(places) > 100


def branch(file: str, name: str) -> dict[str, Any]:
    return next(found for found in named_types(schema(file).raw) if found["name"] == name)


CHAIN = [
    ("payments/event_raw.v1.avsc", "EventRaw"),
    ("payments/event.v1.avsc", "Event"),
    ("terminal_update.v1.avsc", "EventUpdate"),
    ("features.v1.avsc", "Features"),
    ("score.v1.avsc", "Score"),
    ("decision.v1.avsc", "Decision"),
    ("labelled.v1.avsc", "Labelled"),
    ("payments/outcome_raw.v1.avsc", "OutcomeRaw"),
    ("payments/outcome.v1.avsc", "Outcome"),
    ("outcome_orphan.v1.avsc", "OutcomeOrphan"),
]


@pytest.mark.parametrize(
    ("before", "after"),
    [(0, 1), (1, 2), (1, 3), (3, 4), (4, 5), (5, 6), (7, 8), (8, 9)],
    ids=lambda index: CHAIN[index][1],
)
def test_a_record_begins_with_all_of_the_one_before(before: int, after: int) -> None:
    """A stage copies the bytes that it was handed, so names, types and order have to be the same; so do the docs.

    Only senders may leave ids out.
    """
    first, second = (branch(*CHAIN[index])["fields"] for index in (before, after))
    if CHAIN[before][0].endswith("_raw.v1.avsc"):
        assert first[0]["default"] == ""
        first = [{name: value for name, value in first[0].items() if name != "default"}, *first[1:]]
    assert second[: len(first)] == first
    assert len(second) > len(first)


def test_update_and_features_share_the_time_of_the_event_topic() -> None:
    """features.v1 copies the update's bytes up to there and leaves the customer's part out."""
    update, features = branch(*CHAIN[2])["fields"], branch(*CHAIN[3])["fields"]
    names = [field["name"] for field in update]
    shared = names.index("event_append_time_ms") + 1
    assert features[:shared] == update[:shared]


def test_the_same_name_is_the_same_type_everywhere() -> None:
    declared: dict[str, str] = {}
    for file in FILES:
        for named in named_types(schema(file).raw):
            if named["type"] == "enum":
                text = json.dumps(named, sort_keys=True)
                assert declared.setdefault(named["name"], text) == text, f"{file}: {named['name']}"


def test_every_schema_is_pinned_once_and_every_pin_is_a_schema() -> None:
    assert sorted(pinned_ids()) == FILES
    assert sorted(pinned_ids().values()) == list(range(1, len(FILES) + 1))


def test_every_schema_belongs_to_one_topic() -> None:
    of_topics = [file for topic in TOPICS for file in topic.schemas]
    assert sorted(of_topics) == FILES


def test_schema_files_are_named_after_their_version() -> None:
    for file in FILES:
        name = schema(file).raw["name"]
        stem, _, version = file.rpartition("/")[2].removesuffix(".avsc").rpartition(".v")
        assert stem.replace("_", "") == name.lower(), file
        assert version.isdigit(), file


def test_the_pinned_feature_set_is_the_declared_one() -> None:
    declared = load_feature_set(files("schemas").joinpath("payments/features.yaml").read_text(), "features.yaml")
    pin = pinned_feature_set()
    expected = (declared.name, declared.content_hash, declared.names, declared.event_only)
    assert (pin.name, pin.content_hash, pin.names, pin.event_only) == expected, f"pin it anew: schemas/{PINNED}"


def test_design_names_of_features_are_all_there() -> None:
    """The names that people outside rely on, in full."""
    days, windows = ("1d", "7d", "30d"), ("5m", "1h", "1d", "7d", "30d")
    expected = ["amount", "is_weekend", "is_night"]
    expected += [f"customer_{what}_{w}" for what in ("count", "amount_mean") for w in windows]
    expected += [f"terminal_{what}_{w}_delay_7d" for what in ("count", "fraud_rate") for w in days]
    expected += [f"terminal_known_{what}_{w}" for what in ("fraud_rate", "labels") for w in days]
    assert list(pinned_feature_set().names) == expected


def test_schemas_hold_data_only() -> None:
    kinds = {path.suffix for path in SCHEMAS.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert kinds <= {".avsc", ".json", ".jsonl", ".yaml", ".py"}
    assert [path.name for path in SCHEMAS.rglob("*.py")] == ["__init__.py"]


@pytest.mark.parametrize("file", FILES)
def test_no_default_is_a_text_that_the_registry_takes_for_an_object(file: str) -> None:
    """Apicurio 3.3 refuses a schema in which a text's default is ``"{}"``: it cannot tell what the schema is."""
    assert [place for place, field in record_fields(schema(file).raw, file) if field.get("default") == "{}"] == []
