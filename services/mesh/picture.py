"""The mesh as a drawing for people, made from the topology's data and nothing else; at most 100 columns wide.

The flow runs downwards: a stage is a box, a participant stands in brackets, a topic is written beside its arrow with
its key and what it holds. What a box keeps, reads whole or sends elsewhere stands to its right; the rail on the left
collects what the stages refuse.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from services.mesh.topics import DEAD_LETTERS, Topic

if TYPE_CHECKING:  # only names of types: the topology imports this file
    from services.mesh.topology import Participant, Stage

COLUMNS_MAX = 100
_BOX_AT, _BOX_WIDTH = 6, 23
_ARROW_AT = _BOX_AT + _BOX_WIDTH // 2
_TEXT_AT = _ARROW_AT + 3


def draw(stages: Sequence[Stage], participants: Sequence[Participant]) -> str:
    """The whole mesh: the stages in their order, then the topics that no stage touches."""
    lines: list[str] = []
    for number, stage in enumerate(stages):
        before = stages[number - 1] if number else None
        rail = "│" if number else " "
        topic = _main_input(stage, before)
        producers, consumers = (find(topic, stages, participants) for find in (_producers, _consumers))
        lines += _arrival(stage, before, producers, consumers, rail)
        after = stages[number + 1] if number + 1 < len(stages) else None
        lines += _box(stage, before, after, stages, participants, rail)
        if after is None or _main_input(after, stage) not in stage.produces:
            lines += _departure(stage, stages, participants)
    lines += [
        " ▼",
        *_topic_line(f" {DEAD_LETTERS.name}{_readers(DEAD_LETTERS, stages, participants)}", DEAD_LETTERS),
    ]
    touched = {topic.name for stage in stages for topic in (*stage.inputs, *stage.produces, *stage.reads_whole)}
    for topic in _topics_of(participants):
        if topic.name not in touched:
            sources = " ".join(_producers(topic, stages, participants)) or "(nobody)"
            lines += ["", *_topic_line(f" {sources} ──▶ {topic.name}{_readers(topic, stages, participants)}", topic)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _arrival(
    stage: Stage, before: Stage | None, producers: Sequence[str], consumers: Sequence[str], rail: str
) -> list[str]:
    """The arrow into ``stage``, with its topic; who feeds it besides the stage drawn above, and who reads it, too."""
    known = {f"({stage.name})", f"({before.name})" if before else ""}
    others = " ".join(name for name in producers if name not in known)
    topic = _main_input(stage, before)
    if before is not None and topic in before.produces:
        more = f", also from {others}" if others else ""
        readers = " ".join(name for name in consumers if name != f"({stage.name})")
        return _arrow(topic, more + (f", also to {readers}" if readers else ""), rail)
    return [_beside(rail, _centred(others or "(outside)")), *_arrow(topic, "", rail)]


def _main_input(stage: Stage, before: Stage | None) -> Topic:
    """The input that the arrow into ``stage`` shows: what the stage above makes, or else its first."""
    made = before.produces if before is not None else ()
    return next((topic for topic in stage.inputs if topic in made), stage.consumes)


def _arrow(topic: Topic, more: str, rail: str) -> list[str]:
    words = textwrap.wrap(topic.holds, COLUMNS_MAX - _TEXT_AT)
    texts = [*textwrap.wrap(f"{topic.name}  by {topic.key}{more}", COLUMNS_MAX - _TEXT_AT), *words]
    shafts = ["│"] * (len(texts) - 1) + ["▼"]
    return [_beside(rail, f"{shaft:>{_ARROW_AT + 1}}  {text}") for shaft, text in zip(shafts, texts, strict=True)]


def _box(
    stage: Stage,
    before: Stage | None,
    after: Stage | None,
    stages: Sequence[Stage],
    participants: Sequence[Participant],
    rail: str,
) -> list[str]:
    """Three lines, with up to three notes to the right."""
    notes = [f"keeps {stage.state}"] if stage.state else []
    beside = [topic for topic in stage.inputs if topic is not _main_input(stage, before)]
    for topic in (*beside, *stage.reads_whole):
        notes.append(f"◀── {topic.name} ◀── {' '.join(_producers(topic, stages, participants)) or '(outside)'}")
    onward = _main_input(after, stage) if after is not None else None
    for topic in stage.produces:
        if topic is stage.consumes:
            notes.append(f"──▶ {topic.name}, once more")
        elif topic not in (DEAD_LETTERS, onward) and after is not None and onward in stage.produces:
            notes.append(f"──▶ {topic.name}{_readers(topic, stages, participants)}")
    refuses = DEAD_LETTERS in stage.produces
    inner = _BOX_WIDTH - 2
    half = inner // 2
    middle = ("┌" if rail == " " else "├") + "─" * (_BOX_AT - 2) + "┤" if refuses else rail + " " * (_BOX_AT - 2) + "│"
    below = "│" if refuses else rail
    rows = [
        _beside(rail, " " * _BOX_AT + "┌" + "─" * half + "┴" + "─" * half + "┐"),
        f" {middle}{stage.name:^{inner}}│",
        _beside(below, " " * _BOX_AT + "└" + "─" * half + "┬" + "─" * half + "┘"),
    ]
    order = [1, 2, 0]  # beside the name first
    for row, note in zip(order, notes, strict=False):
        rows[row] = f"{rows[row]}  {note}"
    assert len(notes) <= len(rows), f"{stage.name}: no room for {notes}"
    return rows


def _departure(stage: Stage, stages: Sequence[Stage], participants: Sequence[Participant]) -> list[str]:
    """Where a chain of stages ends."""
    lines = []
    for topic in stage.produces:
        if topic in (DEAD_LETTERS, stage.consumes):
            continue
        readers = " ".join(_consumers(topic, stages, participants))
        lines += [*_arrow(topic, "", "│"), _beside("│", _centred(readers or "(outside)"))]
    return lines


def _topic_line(start: str, topic: Topic) -> list[str]:
    line = f"{start}   {topic.holds}"
    return [line] if len(line) <= COLUMNS_MAX else [start, *textwrap.wrap(topic.holds, 90, initial_indent="   ")]


def _readers(topic: Topic, stages: Sequence[Stage], participants: Sequence[Participant]) -> str:
    names = _consumers(topic, stages, participants)
    return f" ──▶ {' '.join(names)}" if names else ""


def _producers(topic: Topic, stages: Sequence[Stage], participants: Sequence[Participant]) -> list[str]:
    writing = [stage.name for stage in stages if topic in stage.produces]
    return [f"({name})" for name in (*writing, *(who.name for who in participants if topic in who.produces))]


def _consumers(topic: Topic, stages: Sequence[Stage], participants: Sequence[Participant]) -> list[str]:
    reading = [stage.name for stage in stages if topic in (*stage.inputs, *stage.reads_whole)]
    return [f"({name})" for name in (*reading, *(who.name for who in participants if topic in who.consumes))]


def _topics_of(participants: Iterable[Participant]) -> list[Topic]:
    topics: dict[str, Topic] = {}
    for who in participants:
        topics.update({topic.name: topic for topic in (*who.produces, *who.consumes)})
    return list(topics.values())


def _centred(text: str) -> str:
    """``text`` around the arrow's column."""
    return " " * max(_BOX_AT, _ARROW_AT - len(text) // 2) + text


def _beside(rail: str, line: str) -> str:
    """``line`` with the rail drawn into its second column."""
    return f" {rail}{line[2:]}"
