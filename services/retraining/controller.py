"""The guarded controller: when to train, whom to try, whom to promote, when to take it back. Pure.

    (state, event) -> (state, actions)

Time is the newest event time or observation that labels have told of. Everything that the controller must remember
across a restart is in ``models.v1``: its own moves and notes come back to it as ``Released`` events, from the first
record on, and make the same state. Evidence comes with each ``Tick``; it is worked out anew from ``labels.v1``.

    harm alert or schedule ─▶ guards ─▶ Train ─▶ gates ─▶ challenge ─▶ evidence ≥ 1/alpha, gates ─▶ canary ─▶ promote
                                                                                                              │
                        the one before serves again ◀─ rollback ◀─ evidence ≥ 1/alpha that it was better ◀────┘

Nothing acts on drift alone: an alert counts only when it shows harm, and only until it is cleared.
"""

from __future__ import annotations

import math
from dataclasses import replace

from services.mesh.model_registry import BESIDE_MAX, BOOTSTRAP
from services.mesh.records import ModelMove
from services.retraining import gates
from services.retraining.events import (
    Action,
    Alerted,
    Counts,
    Event,
    Move,
    Released,
    State,
    Tick,
    Train,
    Trained,
    TrainingFailed,
    Trial,
)
from services.retraining.evidence import Standing
from services.retraining.settings import Rules

TRAINED, REFUSED, STARTED, TRIGGER = "trained", "training_refused", "training_started", "trigger_refused"
INTERRUPTED, DRY_RUN = "training_interrupted", "dry_run"
# One place beside the champion is for the model before it, which is watched.
TRIALS_MAX = BESIDE_MAX - 1
NOTED_MAX = 200


def step(state: State, event: Event, rules: Rules) -> tuple[State, list[Action]]:
    """What follows from ``event``."""
    match event:
        case Released():
            return _released(state, event, rules), []
        case Alerted():
            return (_alerted(state, event) if rules.answers_harm else state), []
        case Trained():
            return _trained(state, event, rules)
        case TrainingFailed(why=why):
            note = _note(state, REFUSED, f"training refused, {state.champion} goes on: {why}", trigger=state.training)
            return replace(state, training=""), [note]
        case Tick():
            return _tick(replace(state, clock_ms=max(state.clock_ms, event.clock_ms)), event, rules)


def _released(state: State, event: Released, rules: Rules) -> State:
    if event.is_void:
        return state
    if event.move == "note":
        return _noted(state, event, rules)
    changed = event.champion != state.champion
    served = state.served | {event.champion} - {BOOTSTRAP}
    since_ms = {trial.model_version: trial.since_ms for trial in state.trials}
    trials = [
        Trial(model_version=version, since_ms=since_ms.get(version, event.event_time_ms), is_watched=version in served)
        for version in event.running
    ]
    return replace(
        state,
        is_training_open=state.is_training_open and not event.has_bundle,
        champion=event.champion,
        champion_since_ms=event.event_time_ms if changed else state.champion_since_ms,
        served=served,
        trials=tuple(trials),
        canary=event.canary,
        canary_since_ms=event.event_time_ms if event.canary != state.canary else state.canary_since_ms,
    )


def _noted(state: State, event: Released, rules: Rules) -> State:
    match event.kind:
        case "training_started" | "dry_run":
            trained_ms = (*state.trained_ms, event.event_time_ms)[-rules.budget :]
            answered = state.answered | event.answers
            return replace(state, trained_ms=trained_ms, answered=answered, is_training_open=event.kind == STARTED)
        case "training_refused" | "trained":
            return replace(state, is_training_open=False)
        case "training_interrupted":
            # As if it had never been: whatever asked for it asks again.
            return replace(state, is_training_open=False, trained_ms=state.trained_ms[:-1], answered=frozenset())
        case _:
            return state


def _alerted(state: State, event: Alerted) -> State:
    if not event.is_harm and event.alert_id not in state.alerts:
        return state
    alerts = {name: alert for name, alert in state.alerts.items() if name != event.alert_id}
    if event.is_raised and event.is_harm:
        alerts[event.alert_id] = event
    # What is cleared and comes again asks again.
    is_over = event.alert_id not in alerts
    return replace(state, alerts=alerts, answered=state.answered - {event.alert_id} if is_over else state.answered)


def _trained(state: State, event: Trained, rules: Rules) -> tuple[State, list[Action]]:
    """Gate a fresh bundle; the first one serves, any later one is a challenger."""
    after = replace(state, training="")
    why_not = gates.before_shadow(event.measures, event.feature_set, rules.feature_set, rules)
    measures = {name: round(value, 6) for name, value in event.measures.items() if not math.isnan(value)}
    if why_not:
        why = f"{event.model_version} refused, {state.champion} goes on: {'; '.join(why_not)}"
        return after, [_note(state, REFUSED, why, event.model_version, measures=measures, folder=event.folder)]
    if state.champion == BOOTSTRAP:
        move: ModelMove = "promote"
        why = f"first model ({state.training or 'asked for'}): average precision {measures['average_precision']:.3f}"
    else:
        move = "challenge"
        why = f"{state.training or 'asked for'}; average precision {measures['average_precision']:.3f} on validation"
    evidence = {"kind": TRAINED, "trigger": state.training, "measures": measures}
    return after, _unless_dry(
        rules,
        Move(
            model_version=event.model_version,
            move=move,
            why=why,
            event_time_ms=state.clock_ms,
            expects=state.champion,
            evidence=evidence,
            folder=event.folder,
        ),
    )


def _tick(state: State, tick: Tick, rules: Rules) -> tuple[State, list[Action]]:
    """At most one move a tick: its echo in the journal changes everything that the next one rests on."""
    if state.is_training_open and not state.training:
        why = "a training was started and has left no trace: its process or ours was killed"
        return state, [_note(state, INTERRUPTED, why)]
    for decide in (_take_back, _end_canary, _end_trials, _start_canary):
        state, actions = decide(state, tick, rules)
        if actions:
            return state, actions
    return _train(state, tick, rules)


def _take_back(state: State, tick: Tick, rules: Rules) -> tuple[State, list[Action]]:
    """Rollback by the mirrored test: the one before, watched since, has shown to be better."""
    for trial in state.trials:
        standing = tick.standings.get(trial.model_version, Standing())
        if trial.is_watched and standing.log_wealth >= _needed(rules):
            why = (
                f"{trial.model_version} was better than {state.champion} all along: average precision "
                f"{standing.precision_b:.3f} against {standing.precision_a:.3f} over {standing.frauds} frauds"
            )
            return state, _unless_dry(
                rules, _move(state, trial.model_version, "rollback", why, standing, expects=state.champion)
            )
    return state, []


def _end_canary(state: State, tick: Tick, rules: Rules) -> tuple[State, list[Action]]:
    if not state.canary:
        return state, []
    version, standing = state.canary, tick.standings.get(state.canary, Standing())
    if standing.log_wealth_worse >= _needed(rules):
        why = f"worse than {state.champion}: {_shown(standing)}"
        return state, _unless_dry(rules, _move(state, version, "retire", why, standing, expects=state.champion))
    if state.clock_ms < state.canary_since_ms + rules.canary_ms:
        return state, []
    why_not = gates.before_canary(standing, rules)
    if why_not:
        return _told(state, version, f"canary {version} waits: {'; '.join(why_not)}", standing)
    why = f"better than {state.champion}: {_shown(standing)}"
    before = state.champion
    # Watched until the next promotion, so that what it would have said can bring it back.
    watch = _move(state, before, "challenge", f"watched beside {version}", standing, expects=version)
    ended = [
        _move(state, trial.model_version, "retire", f"{before} is watched in its place", standing, expects=version)
        for trial in state.trials
        if trial.is_watched
    ]
    return state, _unless_dry(rules, _move(state, version, "promote", why, standing, expects=before), watch, *ended)


def _end_trials(state: State, tick: Tick, rules: Rules) -> tuple[State, list[Action]]:
    for trial in state.trials:
        standing = tick.standings.get(trial.model_version, Standing())
        if trial.is_watched or trial.model_version == state.canary:
            continue
        why = ""
        if standing.log_wealth_worse >= _needed(rules):
            why = f"worse than {state.champion}: {_shown(standing)}"
        elif state.clock_ms >= trial.since_ms + rules.trial_ms_max:
            why = f"no better than {state.champion} within {rules.trial_ms_max // 86_400_000} days: {_shown(standing)}"
        if why:
            move = _move(state, trial.model_version, "retire", why, standing, expects=state.champion)
            return state, _unless_dry(rules, move)
    return state, []


def _start_canary(state: State, tick: Tick, rules: Rules) -> tuple[State, list[Action]]:
    """The newest of those that have shown to be better: it has learned from the most."""
    if state.canary:
        return state, []
    for trial in sorted(state.trials, key=lambda t: t.since_ms, reverse=True):
        standing = tick.standings.get(trial.model_version, Standing())
        if trial.is_watched or standing.log_wealth < _needed(rules):
            continue
        why_not = gates.before_canary(standing, rules)
        if why_not:
            state, actions = _told(
                state, trial.model_version, f"{trial.model_version} waits: {'; '.join(why_not)}", standing
            )
            if actions:
                return state, actions
            continue
        why = f"better than {state.champion}: {_shown(standing)}"
        canary = _move(state, trial.model_version, "canary", why, standing, expects=state.champion)
        return state, _unless_dry(rules, replace(canary, canary_percent=rules.canary_percent))
    return state, []


def _train(state: State, tick: Tick, rules: Rules) -> tuple[State, list[Action]]:
    """Trigger, then guards; a trigger that meets one is told once for each day."""
    if state.training:
        return state, []
    trigger = _trigger(state, rules)
    if not trigger:
        return state, []
    why_not = _guarded(state, tick.counts, rules)
    if why_not:
        key = f"{trigger.split(':')[0]}|{why_not.split(':')[0]}|{state.clock_ms // rules.every_ms}"
        if key in state.noted:
            return state, []
        note = _note(state, TRIGGER, f"{trigger}; not now: {why_not}", rows=tick.counts.rows, frauds=tick.counts.frauds)
        return replace(state, noted=(*state.noted, key)[-NOTED_MAX:]), [note]
    leaves = _crowded_out(state, tick)
    if leaves is not None and not rules.is_dry_run:
        standing = tick.standings.get(leaves.model_version, Standing())
        why = f"makes room for a new challenger: {_shown(standing)}"
        return state, [_move(state, leaves.model_version, "retire", why, standing, expects=state.champion)]
    kind = DRY_RUN if rules.is_dry_run else STARTED
    started = _note(state, kind, trigger, rows=tick.counts.rows, frauds=tick.counts.frauds,
                    alerts={name: alert.text for name, alert in state.alerts.items()})  # fmt: skip
    if rules.is_dry_run:
        return state, [replace(started, why=f"dry run: would train now ({trigger})")]
    return replace(state, training=trigger), [started, Train(cut_off_ms=state.clock_ms, why=trigger)]


def _trigger(state: State, rules: Rules) -> str:
    last_ms = state.trained_ms[-1] if state.trained_ms else 0
    if not state.trained_ms:
        return "first model: nothing was trained yet"
    unanswered = [alert for name, alert in state.alerts.items() if name not in state.answered]
    if unanswered:
        return f"harm: {unanswered[0].text}"
    if state.champion == BOOTSTRAP and state.clock_ms >= last_ms + 86_400_000:
        return "first model: the last attempt gave none"
    if state.clock_ms >= last_ms + rules.every_ms:
        return f"schedule: {(state.clock_ms - last_ms) / 86_400_000:.1f} days since the last training"
    if state.alerts and state.clock_ms >= last_ms + 2 * rules.cool_down_ms:
        # Harm that a training was started for and that has not ended: with more labels the next one may end it.
        return f"harm goes on: {next(iter(state.alerts.values())).text}"
    return ""


def _guarded(state: State, counts: Counts, rules: Rules) -> str:
    """The first guard that says no; empty when none does."""
    if counts.rows < rules.rows_min or counts.frauds < rules.frauds_min:
        return (
            f"labels: {counts.rows} rows and {counts.frauds} frauds have matured, "
            f"{rules.rows_min} and {rules.frauds_min} are needed"
        )
    span_ms = state.clock_ms - counts.oldest_ms
    if span_ms < rules.span_ms_min:
        return f"labels: they span {span_ms / 86_400_000:.1f} days, {rules.span_ms_min / 86_400_000:.1f} are needed"
    if state.trained_ms and counts.new_frauds < rules.new_frauds_min:
        return f"labels: {counts.new_frauds} frauds since the last training, {rules.new_frauds_min} are needed"
    if state.trained_ms and state.champion != BOOTSTRAP and state.clock_ms < state.trained_ms[-1] + rules.cool_down_ms:
        return f"cool-down: the last training was {(state.clock_ms - state.trained_ms[-1]) / 86_400_000:.1f} days ago"
    recent = [at for at in state.trained_ms if at > state.clock_ms - rules.budget_ms]
    if len(recent) >= rules.budget:
        return f"budget: {len(recent)} trainings in {rules.budget_ms // 86_400_000} days"
    return ""


def _crowded_out(state: State, tick: Tick) -> Trial | None:
    """Who makes room for a new challenger: who has least to show, the youngest of equals; None: nobody has to."""
    trials = [trial for trial in state.trials if not trial.is_watched]
    if len(trials) < TRIALS_MAX:
        return None
    candidates = [trial for trial in trials if trial.model_version != state.canary]
    return min(
        candidates,
        key=lambda t: (tick.standings.get(t.model_version, Standing()).log_wealth, -t.since_ms),
    )


def _needed(rules: Rules) -> float:
    return math.log(1 / rules.alpha)


def _move(state: State, version: str, move: ModelMove, why: str, standing: Standing, *, expects: str | None) -> Move:
    return Move(
        model_version=version,
        move=move,
        why=why,
        event_time_ms=state.clock_ms,
        expects=expects,
        evidence={"kind": "test", "against": state.champion, **evidence_of(standing)},
    )


def _note(state: State, kind: str, why: str, version: str = "", **evidence: object) -> Move:
    return Move(
        model_version=version or state.champion,
        move="note",
        why=why,
        event_time_ms=state.clock_ms,
        evidence={"kind": kind, **evidence},
    )


def _told(state: State, version: str, why: str, standing: Standing) -> tuple[State, list[Action]]:
    """A refusal by a gate, noted once for each version and reason."""
    key = f"gate|{version}|{why.split(':')[1] if ':' in why else why}"
    if key in state.noted:
        return state, []
    note = _note(state, "gate", why, version, **evidence_of(standing))
    return replace(state, noted=(*state.noted, key)[-NOTED_MAX:]), [note]


def _unless_dry(rules: Rules, *moves: Move) -> list[Action]:
    """The moves, or what they would have been."""
    if not rules.is_dry_run:
        return list(moves)
    first = moves[0]
    would = f"dry run: would {first.move} {first.model_version} ({first.why})"
    return [replace(first, move="note", why=would, expects=None, canary_percent=0, folder="")]


def evidence_of(standing: Standing) -> dict[str, object]:
    """The numbers that a move rests on."""
    return {
        "blocks": standing.blocks,
        "rows": standing.rows,
        "frauds": standing.frauds,
        "e_value": round(math.exp(min(standing.log_wealth, 50.0)), 3),
        "e_value_worse": round(math.exp(min(standing.log_wealth_worse, 50.0)), 3),
        "average_precision": [_rounded(standing.precision_a), _rounded(standing.precision_b)],
        "brier_skill": [_rounded(standing.skill_a), _rounded(standing.skill_b)],
        "expected_per_fraud": [_rounded(standing.expected_per_fraud_a), _rounded(standing.expected_per_fraud_b)],
        "segment_frauds": list(standing.segment_frauds),
        "segment_gain": [_rounded(gain) for gain in standing.segment_gain],
        "from_ms": standing.first_ms,
        "to_ms": standing.last_ms,
    }


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 5)


def _shown(standing: Standing) -> str:
    if not standing.blocks:
        return "no labelled block yet"
    return (
        f"average precision {standing.precision_b:.3f} against {standing.precision_a:.3f}, {standing.frauds} frauds in "
        f"{standing.blocks} blocks, e-value {math.exp(min(standing.log_wealth, 50.0)):.3g}"
    )
