"""The topology is closed, and the picture in the README is the one that it draws."""

from __future__ import annotations

import re
from typing import Any

import pytest
from repository import ROOT, SERVICES

from services.mesh import topics
from services.mesh.picture import COLUMNS_MAX, draw
from services.mesh.topics import DEAD_LETTERS, TOPICS, Topic
from services.mesh.topology import PARTICIPANTS, STAGES, Participant, Stage, picture
from services.mesh.watermark import LANES_MAX

EVERYBODY: list[Any] = [*STAGES, *PARTICIPANTS]  # what both kinds have: name, service, produces
README_PICTURE = re.compile(r"<!-- topology:begin -->\n```text\n(.*?)```\n<!-- topology:end -->", re.DOTALL)


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_a_topic_has_somebody_at_both_ends(topic: Topic) -> None:
    writers = [who.name for who in EVERYBODY if topic in who.produces]
    readers = [stage.name for stage in STAGES if topic in (*stage.inputs, *stage.reads_whole)]
    readers += [who.name for who in PARTICIPANTS if topic in who.consumes]
    assert writers, f"nobody writes {topic.name}"
    assert readers, f"nobody reads {topic.name}"


def test_every_topic_is_in_the_list_of_topics() -> None:
    declared = [value for value in vars(topics).values() if isinstance(value, Topic)]
    assert [topic.name for topic in declared] == [topic.name for topic in TOPICS]
    used = [topic for stage in STAGES for topic in (*stage.inputs, *stage.produces, *stage.reads_whole)]
    used += [topic for who in PARTICIPANTS for topic in (*who.consumes, *who.produces)]
    assert {topic.name for topic in used} <= {topic.name for topic in TOPICS}


def test_names_are_versioned_and_stand_once() -> None:
    names = [topic.name for topic in TOPICS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+([.-][a-z]+)*\.v[1-9]\d*", name) for name in names)
    who = [part.name for part in EVERYBODY]
    assert len(set(who)) == len(who)


def test_who_owns_a_topic_takes_part() -> None:
    known = {stage.service for stage in STAGES} | {who.service for who in PARTICIPANTS} | {"producers"}
    assert {topic.owner for topic in TOPICS} <= known


def test_everybody_has_a_room() -> None:
    rooms = {path.parent.name for path in SERVICES.glob("*/__init__.py")}
    assert {who.service for who in EVERYBODY} <= rooms


def test_data_topics_share_partitions_and_control_topics_have_one() -> None:
    for topic in TOPICS:
        assert topic.partition_count(8) == (8 if topic.partitions == "data" else 1)
    assert {topic.name for topic in TOPICS if topic.partitions == "one"} <= {"models.v1", "policies.v1", "audit.v1"}


def test_only_the_first_hop_has_unmarked_input() -> None:
    """A record written by a stage says which hop it comes from; one from outside cannot."""
    written = {topic.name for stage in STAGES for topic in stage.produces if topic is not stage.consumes}
    for stage in STAGES:
        assert {stage.marked} == {topic.name in written for topic in stage.inputs}, stage.name


def test_who_writes_the_same_topic_is_told_apart() -> None:
    """Each input of each writer is a lane; the stage that reads them has a watermark with room for so many."""
    for topic in {topic for stage in STAGES if stage.marked for topic in stage.inputs}:
        writers = [stage for stage in STAGES if topic in stage.produces and topic not in (*stage.inputs, DEAD_LETTERS)]
        lanes = [stage.lane + number for stage in writers for number in range(len(stage.inputs))]
        assert len(set(lanes)) == len(lanes) <= LANES_MAX, topic.name


def test_the_picture_in_the_readme_is_current() -> None:
    found = README_PICTURE.search((ROOT / "README.md").read_text())
    assert found, "README.md has lost its <!-- topology:begin --> ... <!-- topology:end --> block"
    assert found[1] == picture(), "paste the output of `python -m services.mesh.topology` between the markers"


def test_the_picture_shows_everybody_and_every_topic() -> None:
    text = picture()
    names = [who.name for who in EVERYBODY] + [topic.name for topic in TOPICS]
    assert [name for name in names if name not in text] == []
    assert max(map(len, text.splitlines())) <= COLUMNS_MAX
    assert all(line == line.rstrip() for line in text.splitlines())


def test_the_picture_is_drawn_from_the_data() -> None:
    source = Topic(name="a.v1", holds="letters", schemas=(), key="k", owner="x")
    target = Topic(name="b.v1", holds="numbers", schemas=(), key="k", owner="x")
    control = Topic(name="c.v1", holds="rules", schemas=(), key="k", owner="x")
    count = Stage(name="count", service="x", consumes=source, produces=(target,), reads_whole=(control,), state="sums")
    desk = Participant(name="desk", service="x", consumes=(target,), produces=(source, control))
    lines = draw([count], [desk]).splitlines()
    assert lines[:8] == [
        "              (desk)",
        "                 │  a.v1  by k",
        "                 ▼  letters",
        "      ┌──────────┴──────────┐",
        "      │        count        │  keeps sums",
        "      └──────────┬──────────┘  ◀── c.v1 ◀── (desk)",
        " │               │  b.v1  by k",
        " │               ▼  numbers",
    ]
