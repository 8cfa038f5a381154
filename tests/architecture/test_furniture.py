"""Every room has the same furniture: who has read one service finds their way in all of them."""

from __future__ import annotations

import ast
import re

import pytest
from repository import ROOT, SERVICES, nodes, place, python_files, tree_of

from services.mesh.topology import PARTICIPANTS, STAGES

STAGE_ROOMS = sorted({stage.service for stage in STAGES})
ROOMS = sorted({*STAGE_ROOMS, *(who.service for who in PARTICIPANTS)})
HEADINGS = ("Consumes", "Does", "Produces", "Guarantees")


@pytest.mark.parametrize("room", ROOMS)
def test_a_service_says_what_it_consumes_does_produces_and_guarantees(room: str) -> None:
    text = ast.get_docstring(tree_of(SERVICES / room / "__init__.py")) or ""
    found = re.findall(r"\b(Consumes|Does|Produces|Guarantees)\b", text)
    assert tuple(dict.fromkeys(found)) == HEADINGS, f"services/{room}/__init__.py has {found}"


@pytest.mark.parametrize("room", STAGE_ROOMS)
def test_a_stage_has_a_handler_and_one_place_where_real_parts_meet(room: str) -> None:
    missing = [name for name in ("handler.py", "__main__.py") if not (SERVICES / room / name).exists()]
    assert not missing, f"services/{room} has no {', '.join(missing)}"


@pytest.mark.parametrize("room", sorted({who.service for who in PARTICIPANTS} - {"platform"}))
def test_a_participant_can_be_started(room: str) -> None:
    assert (SERVICES / room / "__main__.py").exists()


def test_settings_are_read_in_settings_files() -> None:
    """A service's knobs stand in one file, each with its unit and why its default."""
    readers = {"text", "choice", "integer", "number", "duration_ms", "size_bytes"}
    elsewhere = {
        place(path)
        for path in python_files(*(f"services/{room}" for room in STAGE_ROOMS))
        if path.name != "settings.py"
        for node in nodes(path)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in readers
        and node.args and isinstance(node.args[0], ast.Constant) and str(node.args[0].value).startswith("WEIR_")
    }  # fmt: skip
    assert not elsewhere


def test_each_room_of_code_says_what_it_is() -> None:
    silent = [place(path) for path in python_files("services", "schemas") if not ast.get_docstring(tree_of(path))]
    assert not silent


def test_unit_tests_mirror_rooms() -> None:
    rooms = {path.parent.name for path in SERVICES.glob("*/__init__.py")} | {"loadtests"}
    strangers = [path.name for path in (ROOT / "tests/unit").iterdir() if path.is_dir() and path.name not in rooms]
    assert not [name for name in strangers if name != "__pycache__"]
