from __future__ import annotations

import pytest
from feature_streams import CUSTOMER, DAY, FEATURES, FEATURES_TEXT, TERMINAL

from services.features.definitions import load_feature_set
from services.mesh.errors import Fatal

# Any real change of what vectors hold must change this, and be meant: served vectors and models are bound to it.
CONTENT_HASH = "a3814185fff00c9a"

OPS = "amount, is_weekend, is_night, count, amount_mean, fraud_rate, known_fraud_rate, known_labels"
DURATION = "write a whole number above 0 and s, m, h or d, as in 5m or 30d"


def changed(*replacements: tuple[str, str]) -> str:
    text = FEATURES_TEXT
    for old, new in replacements:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def mistakes(text: str) -> list[str]:
    with pytest.raises(Fatal) as refusal:
        load_feature_set(text, "features.yaml")
    first, *rest = str(refusal.value).splitlines()
    assert first == f"features.yaml: {len(rest)} mistake{'s' if len(rest) > 1 else ''}"
    return [line.strip() for line in rest]


def test_payments_has_25_features_in_the_designs_order() -> None:
    assert len(FEATURES.names) == len(set(FEATURES.names)) == len(FEATURES.abouts) == 25
    assert FEATURES.names == CUSTOMER.names + TERMINAL.names
    assert [(view.name, view.entity_field, view.first, view.count) for view in FEATURES.views] == [
        ("customer", "customer_id", 0, 13),
        ("terminal", "terminal_id", 13, 12),
    ]
    assert [FEATURES.names[place] for place in FEATURES.event_only] == ["amount", "is_weekend", "is_night"]


def test_kept_span_is_longest_reach_and_lateness() -> None:
    assert (CUSTOMER.reach_ms, CUSTOMER.kept_span_ms) == (30 * DAY, 31 * DAY)
    assert (TERMINAL.reach_ms, TERMINAL.kept_span_ms) == (37 * DAY, 38 * DAY)


def test_content_hash_is_pinned() -> None:
    assert FEATURES.content_hash == CONTENT_HASH


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("30d]", "29d]"),
        ("delay: 7d", "delay: 8d"),
        ("lateness: 1d", "lateness: 2d"),
        ("4096", "4095"),
        ("tile_width: 1h", "tile_width: 2h"),
        ("customer_count_", "customer_number_"),
        ("[5m, 1h,", "[1h, 5m,"),
    ],
)
def test_content_hash_changes_with_whatever_decides_a_vector(old: str, new: str) -> None:
    assert load_feature_set(changed((old, new)), "f").content_hash != CONTENT_HASH


def test_content_hash_does_not_change_with_texts() -> None:
    text = changed(("Amount in major units", "The amount in major units"), ("# Above", "# Over"))
    assert load_feature_set(text, "f").content_hash == CONTENT_HASH


def test_each_view_marks_its_stored_state_as_its_own() -> None:
    other = load_feature_set(changed(("30d]", "29d]")), "f")
    marks = {view.store_mark for view in (*FEATURES.views, *other.views)}
    assert len(marks) == 4


def test_every_mistake_is_listed_at_once_with_value_place_and_remedy() -> None:
    text = changed(
        ("name: payments", "name: Payments"),
        ("lateness: 1d", "latenes: 1d"),
        ("entity: customer_id", "entity: custmer_id"),
        ("op: is_weekend", "op: is_weekday"),
        ("op: count", "op: cuont"),
        ('[5m, 1h, 1d, 7d, 30d]\n        about: "Mean', '[5m, 1h, 60m, 7, 500d]\n        about: "Mean'),
        ("exact_events_max: 4096", "exact_events_max: lots"),
        ("tile_width: 1h", "tile_width: 0h"),
    )
    assert mistakes(text) == [
        "name='Payments': must be 1 to 63 of a-z, 0-9 and _, a letter first",
        "views[0]='latenes': is no field; did you mean lateness?",
        "views[0].lateness: is missing",
        f"views[0].features[1].op='is_weekday': is none of {OPS}; did you mean is_weekend?",
        f"views[0].features[3].op='cuont': is none of {OPS}; did you mean count?",
        f"views[0].features[4].windows[3]: 7 is no duration: {DURATION}",
        "views[0].features[4].windows=3600000: length in ms stands twice: remove one",
        "views[0].features[4].windows='500d': with its delay it spans more than 400d",
        "views[0].entity='custmer_id': is none of customer_id, terminal_id; did you mean customer_id?",
        "views[0].exact_events_max='lots': must be a whole number from 4 to 65536",
        f"views[0].tile_width: '0h' is no duration: {DURATION}",
    ]


WINDOWS_LINE = "        windows: [5m, 1h, 1d, 7d, 30d]\n"


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        (
            "names: is_night",
            "names: amount",
            "features[2].names='amount': is a feature already at views[0].features[0].names: choose another name",
        ),
        (
            "count_{window}",
            "count",
            "features[3].names='customer_count': "
            "write {window} where the window's length belongs, as in count_{window}",
        ),
        (WINDOWS_LINE, "", "features[3].windows: op count needs windows, as in [1d, 7d]"),
        (WINDOWS_LINE, "        windows: []\n", "features[3].windows=[]: must be a list with at least one entry"),
        (
            "op: amount,",
            "op: amount, delay: 1d,",
            "features[0].delay='1d': op amount needs the event alone: leave delay out",
        ),
        ("max: 4096", "max: true", "exact_events_max=True: must be a whole number from 4 to 65536"),
    ],
)
def test_a_single_mistake(old: str, new: str, mistake: str) -> None:
    assert mistakes(changed((old, new))) == [f"views[0].{mistake}"]


def test_two_views_of_one_name_are_refused() -> None:
    text = changed(("name: terminal", "name: customer"))
    assert mistakes(text) == ["views='customer': name stands twice: remove one"]


def test_features_of_the_event_alone_come_before_windows() -> None:
    amount = '      - {names: amount, op: amount, about: "Amount in major units of its currency."}\n'
    text = changed((amount, ""), ("\n  - name: terminal", f"\n{amount}\n  - name: terminal"))
    assert mistakes(text) == ["views[0].features='amount': needs the event alone: put it before those with windows"]


@pytest.mark.parametrize(
    "text", ["", "[]", "7", "views: 3", "views: [3]\nname: x", "name: x\nviews: [{features: [[]]}]"]
)
def test_any_other_document_is_refused_in_words(text: str) -> None:
    assert mistakes(text)


def test_a_key_that_stands_twice_is_refused_and_not_overwritten() -> None:
    with pytest.raises(Fatal, match=r"features.yaml: no YAML: .*key 'lateness' stands twice.*line 10"):
        load_feature_set(changed(("lateness: 1d", "lateness: 1d\n    lateness: 2d")), "features.yaml")


def test_a_file_that_is_no_yaml_is_refused() -> None:
    with pytest.raises(Fatal, match=r"features.yaml: no YAML: .*line 1"):
        load_feature_set("name: [", "features.yaml")
