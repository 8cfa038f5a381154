"""The scenario's report: rows, moments and targets, of recordings made by hand."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from services.mesh.errors import Fatal
from services.platform import scenario as scenario_module
from services.platform import scenario_drawing, scenario_report
from services.platform.judging import MOMENTS, RECORDING
from services.platform.moments import moments_of
from services.platform.scenario import scenario
from services.platform.scenario_plan import DAYS, Run, WorldName
from services.simulator.fraud import Kind
from services.simulator.rhythm import DAY_MS
from services.simulator.world import World, WorldSettings
from services.simulator.worlds import DRIFT, DRIFT_SHIFT_DAY, world_named

SEED = 3
WEEKS = range(-1, (DAYS - DRIFT_SHIFT_DAY) // 7)
SHIFT_MS = WorldSettings().first_day_ms + DRIFT_SHIFT_DAY * DAY_MS


def recorded(folder: Path, world: WorldName, *, blind_from: int, alert_day: float | None) -> Run:
    """A run whose model knows all, and from ``blind_from`` on, in days, nothing."""
    folder.mkdir()
    source = World(world_named(DRIFT, WorldSettings(seed=SEED)))
    ids, times, amounts, scores = [], [], [], []
    rng = np.random.default_rng(1)
    for day in range(DRIFT_SHIFT_DAY - 7, DAYS):
        payments, truth = source.day(day)
        ids += [f"w{SEED}-{day}-{number}" for number in range(len(payments))]
        times.append(payments.event_time_ms)
        amounts.append(payments.amount_minor)
        chance = rng.random(len(payments))
        scores.append(chance if day >= blind_from else np.where(truth.kind != Kind.GENUINE, 0.9, 0.1 * chance))
    score = np.concatenate(scores)
    columns = {
        "event_id": ids,
        "event_time_ms": np.concatenate(times),
        "amount_minor": np.concatenate(amounts),
        "score": score,
        "model_version": ["m1"] * len(score),
        "first_model_score": score,
    }
    pq.write_table(pa.table(columns), folder / RECORDING)
    moments = [] if alert_day is None else [[SHIFT_MS + int(alert_day * DAY_MS), "alert", "harm: precision"]]
    left = {"first_model": "m1", "moments": moments, "labelled_ms": [SHIFT_MS, SHIFT_MS + 1]}
    (folder / MOMENTS).write_text(json.dumps(left))
    counts = dict.fromkeys(("events_in", "decisions", "missing", "duplicates", "labels"), 0)
    (folder / "summary.json").write_text(json.dumps(counts))
    return Run(SEED, world, folder)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> scenario_report.Report:
    folder = tmp_path_factory.mktemp("scenario")
    return scenario_report.judged(
        [
            recorded(folder / "weekly", "weekly", blind_from=DRIFT_SHIFT_DAY + 7, alert_day=None),
            recorded(folder / "loop", "loop", blind_from=DAYS, alert_day=9.0),
        ]
    )


def test_a_row_for_every_week_of_every_world(report: scenario_report.Report) -> None:
    weeks = report.as_json(1.0)["scenario"]["weeks"]  # type: ignore[index]
    assert {(row["world"], row["week"]) for row in weeks} == {
        (world, week) for world in ("frozen", "weekly", "loop") for week in WEEKS
    }
    assert {"seed", "world", "week", "precision", "recall", "average_precision", "money_saved", "labelled"} <= set(
        weeks[0]
    )
    assert [row["labelled"] for row in weeks if row["world"] == "loop"] == [0, 2, 0, 0]


def test_the_truth_is_the_worlds(report: scenario_report.Report) -> None:
    precision = {(row.world, row.worth.week): row.worth.precision for row in report.rows}
    assert all(precision["loop", week] == 1.0 for week in WEEKS)
    assert precision["frozen", 0] == 1.0
    assert all(precision["frozen", week] < 0.3 for week in WEEKS if week >= 1)


def test_moments_are_of_their_world(report: scenario_report.Report) -> None:
    moments = report.as_json(1.0)["scenario"]["moments"]  # type: ignore[index]
    assert [(m["world"], m["kind"]) for m in moments] == [
        ("frozen", "shift"), ("weekly", "shift"), ("loop", "shift"), ("loop", "alert"),
    ]  # fmt: skip
    assert moments[-1]["virtual_time"] == "2025-02-19T00:00:00Z"


def test_targets_are_held_against_each_seed(report: scenario_report.Report) -> None:
    (check,) = scenario_report.checks(report)
    assert check["first_alert_day"] == 9.0
    assert check["before_shift_lowest"] == check["loop_since_alert_lowest"] == 1.0
    assert check["holds"] is True


def test_a_loop_that_falls_does_not_hold(tmp_path: Path) -> None:
    worse = scenario_report.judged(
        [
            recorded(tmp_path / "weekly", "weekly", blind_from=DRIFT_SHIFT_DAY + 7, alert_day=None),
            recorded(tmp_path / "loop", "loop", blind_from=DRIFT_SHIFT_DAY + 14, alert_day=9.0),
        ]
    )
    assert scenario_report.checks(worse)[0]["holds"] is False
    assert "DOES NOT HOLD" in scenario_drawing.to_text(worse)


def test_picture_and_page_need_nothing_beside_them(report: scenario_report.Report, tmp_path: Path) -> None:
    scenario_drawing.draw(report, tmp_path)
    assert (tmp_path / "drift.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "drift.html").read_text()
    assert "data:image/png;base64," in page
    assert 'src="http' not in page
    assert "harm: precision" in page


def test_every_run_trains_and_only_the_loop_hears_alerts(tmp_path: Path) -> None:
    argvs = {world: scenario_module.command(Run(SEED, world, tmp_path)) for world in ("weekly", "loop")}
    left_out = {world: argv[argv.index("--without") + 1].split(",") for world, argv in argvs.items()}
    assert {world: {"retraining", "drift"} & set(names) for world, names in left_out.items()} == {
        "weekly": {"drift"},
        "loop": set(),
    }
    assert "console" in left_out["loop"]


def copies(runs: Path, monkeypatch: pytest.MonkeyPatch, *, status: int = 0) -> None:
    """In place of a mesh: a process that leaves what was recorded by hand."""

    def command(run: Run) -> list[str]:
        code = "import shutil, sys; shutil.copytree(sys.argv[1], sys.argv[2], dirs_exist_ok=True); "
        code += f"print('last words'); sys.exit({status})"
        return [sys.executable, "-c", code, str(runs / run.world), str(run.folder)]

    monkeypatch.setattr(scenario_module, "command", command)


def test_all_runs_are_made_judged_and_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(tmp_path / "weekly", "weekly", blind_from=DRIFT_SHIFT_DAY + 7, alert_day=None)
    recorded(tmp_path / "loop", "loop", blind_from=DAYS, alert_day=9.0)
    copies(tmp_path, monkeypatch)
    text = io.StringIO()
    data = tmp_path / "data"
    assert scenario("drift", (SEED,), data, Console(file=text, width=200)) == 0
    written = json.loads((data / "summary.json").read_text())["scenario"]
    assert {row["world"] for row in written["weeks"]} == {"frozen", "weekly", "loop"}
    assert [check["holds"] for check in written["checks"]] == [True]
    assert (data / "scenario" / "drift.html").exists()
    assert "holds" in text.getvalue()
    left = {entry.name for entry in (data / "scenario" / f"seed-{SEED}-loop").iterdir()}
    assert left == {"summary.json", RECORDING, MOMENTS}


def test_a_run_that_fails_is_named_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for world in ("weekly", "loop"):
        (tmp_path / world).mkdir()
    copies(tmp_path, monkeypatch, status=3)
    with pytest.raises(Fatal, match=r"seed 4 \w+: ended with 3 \(last words\)"):
        scenario("drift", (4,), tmp_path / "data", Console(file=io.StringIO()))


def test_the_worlds_differ_in_analysts_and_drift_alone() -> None:
    weekly, loop = (
        scenario_module.command(Run(4, world, Path("f")))[2:]
        for world in ("weekly", "loop")  # type: ignore[arg-type]
    )
    assert [word for word in weekly if word not in loop] == ["gateway,console,review,lookup,drift,webhooks"]
    assert [word for word in loop if word not in weekly] == [
        "gateway,console,review,lookup,webhooks",
        "--reviewed",
        "60",
    ]


def test_another_scenario_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="SCENARIO=flood: must be drift"):
        scenario("flood", (1,), tmp_path, Console())


def test_moments_of_a_journal() -> None:
    base = {"model_version": "m2", "why": "better", "evidence": "{}", "event_time_ms": 5, "model": b""}
    releases = [
        base | {"move": "promote"},
        base | {"move": "challenge", "event_time_ms": 3},
        base | {"move": "note", "evidence": '{"kind": "training_started"}', "event_time_ms": 2, "why": "schedule"},
        base | {"move": "note", "evidence": '{"kind": "trigger_refused"}'},
        base | {"move": "rollback", "event_time_ms": 9},
    ]
    alert = {"status": "raised", "window_end_ms": 4, "is_harm": True, "text": "precision fell"}
    found = moments_of(releases, [alert, alert | {"status": "cleared"}])  # type: ignore[arg-type, list-item]
    assert [(moment.time_ms, moment.kind, moment.detail) for moment in found] == [
        (2, "retrain", "schedule"),
        (4, "alert", "harm: precision fell"),
        (5, "promote", "m2: better"),
        (9, "rollback", "m2: better"),
    ]
