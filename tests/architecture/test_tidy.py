"""House rules that a tool can check, so that no reviewer has to."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from repository import ROOT, nodes, place, python_files, tracked_files

LINES_MAX = 400
# Files over the limit, with what they are allowed: never to grow, and gone when somebody has cut them.
LONG_FILES: dict[str, int] = {
    # Histories of one thing, each test a paragraph of them: cutting would part what is read together.
}

UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
UNSAFE_YAML = {"load", "load_all", "unsafe_load", "unsafe_load_all", "full_load", "full_load_all"}
# Who may compile code at run time, and from what.
COMPILERS = {"services/features/formulas.py": "formulas of declared features, from names that were checked"}
# Who may call yaml.load: with a loader of its own that is a SafeLoader.
YAML_LOADERS = {"services/features/checks.py": "a SafeLoader that refuses a key which stands twice"}

# Where packages and images come from is the business of pip's, Maven's and Docker's own configuration.
HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"), ("pythonhosted", "org"), ("repo", "maven", "apache"), ("repo1", "maven"), ("maven", "org"),
        ("npmjs", "org"), ("npmjs", "com"), ("docker", "io"), ("docker", "com"), ("ghcr", "io"), ("quay", "io"),
        ("gcr", "io"), ("anaconda", "org"), ("crates", "io"), ("packages", "confluent"),
    )
]  # fmt: skip
MACHINE_PATH = re.compile(r"(?<![\w.:/}>-])/(?:work|home|root|Users|mnt|scratch)/[\w.-]+")
CLOCK_CALLS = {"now", "utcnow", "today"}


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in nodes(path) if isinstance(node, ast.Call))


def test_files_stay_short() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in python_files("services", "loadtests", "tests")
    }
    over = {name: lines for name, lines in lengths.items() if lines > LONG_FILES.get(name, LINES_MAX)}
    assert not over, f"one idea a file: cut it, at most {LINES_MAX} lines"
    cut = [name for name in LONG_FILES if lengths.get(name, 0) <= LINES_MAX]
    assert not cut, f"no longer too long: take {cut} off the list"


def test_no_error_is_swallowed_whole() -> None:
    """``except Exception`` hides bugs; ``except BaseException`` only where it cleans up and raises again."""
    broad = []
    for path in python_files("services", "loadtests"):
        for node in nodes(path):
            if not isinstance(node, ast.ExceptHandler):
                continue
            names = {name.id for name in ast.walk(node.type or ast.Name("bare")) if isinstance(name, ast.Name)}
            raises = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            if names & {"Exception", "bare"} or ("BaseException" in names and not raises):
                broad.append(place(path, node))
    assert not broad


def test_only_the_command_line_prints() -> None:
    talkers = ("services/cli", "services/platform")
    printing = [
        place(path, call)
        for path in python_files("services")
        if not str(path.relative_to(ROOT)).startswith(talkers)
        for call in calls(path)
        if isinstance(call.func, ast.Name) and call.func.id == "print"
    ]
    assert not printing


def test_nothing_unpickles() -> None:
    found = [
        place(path, node)
        for path in python_files("services", "loadtests", "schemas")
        for node in nodes(path)
        for name in imported(node)
        if name in UNSAFE_MODULES
    ]
    found += [
        place(path, call)
        for path in python_files("services", "loadtests")
        for call in calls(path)
        for keyword in call.keywords
        if keyword.arg == "allow_pickle" and not (isinstance(keyword.value, ast.Constant) and not keyword.value.value)
    ]
    assert not found


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [(node.module or "").partition(".")[0]]
    return []


def test_yaml_is_loaded_safely() -> None:
    found = {
        place(path, call): str(path.relative_to(ROOT))
        for path in python_files("services", "loadtests", "tests")
        for call in calls(path)
        if isinstance(call.func, ast.Attribute) and call.func.attr in UNSAFE_YAML
        and isinstance(call.func.value, ast.Name) and call.func.value.id == "yaml"
    }  # fmt: skip
    assert {where: file for where, file in found.items() if file not in YAML_LOADERS} == {}
    assert set(YAML_LOADERS) <= set(found.values()), "an excuse that nobody needs"


def test_no_text_becomes_code() -> None:
    found = {
        place(path, call): str(path.relative_to(ROOT))
        for path in python_files("services", "loadtests")
        for call in calls(path)
        if isinstance(call.func, ast.Name) and call.func.id in ("eval", "exec")
    }
    assert {where: file for where, file in found.items() if file not in COMPILERS} == {}
    assert set(COMPILERS) <= set(found.values()), "an excuse that nobody needs"


def test_only_the_clock_knows_what_time_it_is() -> None:
    """Time is data: replayed logs meet the same code. (``time`` itself is behind the wall of ``.importlinter``.)"""
    asking = [
        place(path, call)
        for path in python_files("services")
        if not str(path.relative_to(ROOT)).startswith(("services/cli", "services/platform", "services/mesh/adapters"))
        for call in calls(path)
        if isinstance(call.func, ast.Attribute) and call.func.attr in CLOCK_CALLS
        and isinstance(call.func.value, ast.Name) and call.func.value.id in ("datetime", "date")
    ]  # fmt: skip
    assert not asking


def test_randomness_is_seeded() -> None:
    unseeded = [
        place(path, call)
        for path in python_files("services")
        if not str(path.relative_to(ROOT)).startswith(("services/cli", "services/platform"))
        for call in calls(path)
        if isinstance(call.func, ast.Attribute) and call.func.attr in ("default_rng", "Random", "SeedSequence")
        and not call.args and not call.keywords
    ]  # fmt: skip
    assert not unseeded


def texts() -> Iterator[tuple[Path, str]]:
    for path in tracked_files():
        try:
            yield path, path.read_text()
        except UnicodeDecodeError:
            continue


@pytest.mark.parametrize("host", HOSTS)
def test_no_package_registry_is_named(host: str) -> None:
    assert [place(path) for path, text in texts() if host in text] == []


def test_no_path_of_a_machine_is_named() -> None:
    found = [f"{place(path)}: {match[0]}" for path, text in texts() for match in MACHINE_PATH.finditer(text)]
    assert not found


def test_no_file_is_large() -> None:
    """Models, samples and archives are made or fetched, never checked in."""
    assert [place(path) for path in tracked_files() if path.stat().st_size > 512 * 1024] == []
