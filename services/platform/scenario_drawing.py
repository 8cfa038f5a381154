"""The scenario as a table, a picture, and one page that needs nothing beside it."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from services.platform.scenario_plan import PER_DAY, WORLDS
from services.platform.scenario_report import LOOP_MIN, Event, Report, checks

_COLOURS = {"frozen": "#9a3b3b", "weekly": "#c58b2b", "loop": "#2b6f9a"}


def to_text(report: Report) -> str:
    """The tables."""
    lines = ["", f"precision of the {PER_DAY} highest scores a day, recall, average precision, money saved", ""]
    for seed in sorted({row.seed for row in report.rows}):
        lines.append(f"seed {seed}   {'frozen':^30}{'weekly':^30}{'loop':^30}")
        mine = {(row.world, row.worth.week): row for row in report.rows if row.seed == seed}
        for week in sorted({week for _, week in mine}):
            cells = []
            for world in WORLDS:
                worth = mine[(world, week)].worth
                cells.append(
                    f"{worth.precision:7.1%}{worth.recall:7.1%}{worth.average_precision:7.3f}{worth.money_saved:9,.0f}"
                )
            lines.append(f"week {week:+d}  " + "".join(cells))
        for event in report.events:
            if event.seed == seed and event.kind != "shift":
                lines.append(f"   {event.world:6} day {event.day:+6.1f}  {event.kind:8} {event.detail[:150]}")
        lines.append("")
    for check in checks(report):
        lines.append(
            f"seed {check['seed']}: before the shift at least {check['before_shift_lowest']:.1%}, frozen two weeks "
            f"after it at most {check['frozen_after_two_weeks_highest']:.1%}, loop at least "
            f"{check['loop_since_alert_lowest']:.1%} (first alert on day {check['first_alert_day']}): "
            f"{'holds' if check['holds'] else 'DOES NOT HOLD'}"
        )
    return "\n".join(lines)


def draw(report: Report, folder: Path) -> None:
    """``drift.png``, and ``drift.html`` that needs nothing beside it."""
    picture = _picture(report)
    (folder / "drift.png").write_bytes(picture)
    (folder / "drift.html").write_text(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Weir: a shift, three worlds</title>"
        "<style>body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;color:#222}"
        "pre{font:12px/1.35 ui-monospace,monospace;overflow-x:auto}img{max-width:100%}</style>"
        "<h1>A shift, three worlds</h1><p>The same payments in each; the shift begins with week 0. frozen: the first "
        "model for ever. weekly: trained each week on labels that come a week late. loop: analysts, alerts, training "
        "by schedule and by harm, promotion by test.</p>"
        f'<img alt="weeks by world" src="data:image/png;base64,{base64.b64encode(picture).decode()}">'
        f"<pre>{html.escape(to_text(report))}</pre></html>\n"
    )


def _picture(report: Report) -> bytes:
    seeds = sorted({row.seed for row in report.rows})
    figure = Figure(figsize=(4.2 * max(2, len(seeds)), 11), layout="constrained")
    measures = ("precision", "recall", "average_precision", "money_saved")
    axes = figure.subplots(len(measures), len(seeds), squeeze=False, sharex=True, sharey="row")
    for column, seed in enumerate(seeds):
        for line, measure in enumerate(measures):
            plot = axes[line][column]
            for world, colour in _COLOURS.items():
                mine = [row.worth for row in report.rows if row.seed == seed and row.world == world]
                weeks = [worth.week + 0.5 for worth in mine]
                plot.plot(weeks, [getattr(worth, measure) for worth in mine], marker="o", color=colour, label=world)
            plot.axvline(0.0, color="#888", linewidth=1)
            plot.grid(alpha=0.25)
            if measure == "precision":
                plot.axhline(LOOP_MIN, color="#888", linestyle=":", linewidth=1)
                _mark(plot, [event for event in report.events if event.seed == seed and event.world == "loop"])
                plot.set_title(f"seed {seed}")
            if column == 0:
                plot.set_ylabel(measure.replace("_", " "))
        axes[-1][column].set_xlabel("weeks since the shift")
    axes[0][0].legend(loc="lower left", fontsize=8)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=90)
    return content.getvalue()


def _mark(plot: Any, events: Sequence[Event]) -> None:
    signs = {"alert": "!", "retrain": "r", "promote": "P", "rollback": "B"}
    for event in events:
        if event.kind in signs and event.day >= -7:
            plot.text(event.day / 7, 1.005, signs[event.kind], fontsize=7, ha="center", color=_COLOURS["loop"])
