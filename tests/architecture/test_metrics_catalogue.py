"""A metric exists because it is in the catalogue, and it is in the catalogue because something feeds it."""

from __future__ import annotations

import re

from repository import ROOT, place, python_files, strings, tracked_files

from services.mesh.metrics import METRICS

CATALOGUE = {metric.name: metric for metric in METRICS}
CATALOGUE_FILE = ROOT / "services/mesh/metrics.py"
# What Prometheus makes of a metric of each kind.
SUFFIXES = {"counter": ("", "_total", "_created"), "gauge": ("",), "histogram": ("", "_bucket", "_count", "_sum")}


def exposed_names() -> set[str]:
    return {metric.name + suffix for metric in METRICS for suffix in SUFFIXES[metric.kind]}


def test_every_name_in_code_is_declared() -> None:
    unknown = [
        f"{place(path)}: {name}"
        for path in python_files("services", "loadtests")
        for text in strings(path)
        for name in re.findall(r"(?<![\w.-])weir_[a-z0-9_]+(?![\w.-])", text)
        if name not in exposed_names()
    ]
    assert not unknown


def test_every_name_in_dashboards_and_alerts_is_declared() -> None:
    unknown = [
        f"{place(path)}: {name}"
        for path in tracked_files()
        if path.is_relative_to(ROOT / "infra") and path.suffix in (".json", ".yml", ".yaml")
        for name in re.findall(r"\bweir_[a-z0-9_]+", path.read_text())
        if name not in exposed_names()
    ]
    assert not unknown


def test_every_declared_metric_is_fed() -> None:
    used = {text for path in python_files("services") if path != CATALOGUE_FILE for text in strings(path)}
    assert sorted(set(CATALOGUE) - used) == []


def test_every_metric_says_unit_help_and_when_to_worry() -> None:
    for metric in METRICS:
        assert metric.unit, metric.name
        assert metric.worry, metric.name
        assert metric.help.endswith("."), metric.name
        assert metric.labels[0] == "stage", metric.name
        assert not {"event_id", "customer_id", "terminal_id"} & set(metric.labels), "a label is a closed set"
        assert metric.name.endswith("_seconds") == (metric.unit == "seconds"), metric.name
    assert len(CATALOGUE) == len(METRICS)
