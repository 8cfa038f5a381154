"""``weir status``: is it running, is it keeping up, what is in force, how much more can it carry?"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import redis

from services.cli.review_status import cases_line, queue_line, queue_status
from services.cli.shared import add_json, add_mesh, endpoints_of, plain, print_json, print_line
from services.cli.webhooks_status import webhooks_lines, webhooks_status
from services.features.declared import declared_features
from services.features.kernel import View
from services.features.layout import unpack
from services.features.occupancy import NEVER_MS
from services.features.stored_mark import read_mark
from services.ingestion.capacity import capacity_line
from services.ingestion.settings import IngestionSettings
from services.mesh.adapters.log_reader import LogReader
from services.mesh.adapters.lookup_reader import LOOKUP_FILE, IndexReader
from services.mesh.adapters.redis_store import RedisStore, connect
from services.mesh.errors import Fatal, StoreUnreachable, Transient, WeirError
from services.mesh.lookup_entries import INDEXED
from services.mesh.settings import Environment
from services.mesh.topics import DAY_MS, DECISIONS, EVENTS
from services.mesh.topology import REVIEW
from services.platform.case_account import account_of_cases
from services.platform.observe import Observer, StageStatus
from services.platform.scan import Ledger, scan

_BETWEEN_LOOKS_S = 1.0
_SAMPLED_ENTITIES = 200
_SCAN_KEYS = 1_000
_SCANS_MAX = 20


def fill(parser: argparse.ArgumentParser) -> None:
    """``weir status``."""
    parser.description = (
        "Looks twice, a second apart. --verify also reads the whole log and compares what was accepted "
        "with what was decided and with the cases that people were given; it exits 1 when one is missing or doubled."
    )
    parser.epilog = "example: weir status --verify"
    add_mesh(parser)
    add_json(parser)
    parser.add_argument("--verify", action="store_true", help="settle the account from the log itself")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Ask everybody; 1 when --verify finds something wrong."""
    endpoints = endpoints_of(given)
    observer = Observer(endpoints.kafka, given.data_dir / "run")
    observer.stages()
    looked_s = time.monotonic()
    log = LogReader(endpoints.kafka)
    store = _store(endpoints.redis, log.partitions(EVENTS))
    lookup_lag = _lookup_lag(log, given)
    webhooks, queue = webhooks_status(given.data_dir), queue_status(endpoints.redis)
    time.sleep(max(0.0, looked_s + _BETWEEN_LOOKS_S - time.monotonic()))
    stages = observer.stages()
    capacity = _capacity(log, stages, store)
    ledger = scan(endpoints.kafka, observer.committed()) if given.verify else None
    cases = account_of_cases(endpoints.kafka, observer.taken(REVIEW, DECISIONS)) if given.verify else None
    if given.json:
        print_json(
            {
                "ready": endpoints.ready and all(stage.ready == stage.instances > 0 for stage in stages),
                "stages": [plain(stage) for stage in stages],
                "lookup": {"lag": lookup_lag},
                "webhooks": webhooks,
                "redis": store,
                "capacity": capacity,
                "review": queue,
                "verified": plain(ledger) if ledger is not None else None,
                "verified_cases": plain(cases) if cases is not None else None,
            }
        )
    else:
        _show(stages, [_lookup_line(lookup_lag), *webhooks_lines(webhooks)], store, capacity)
        print_line(queue_line(queue))
        if ledger is not None:
            _show_ledger(ledger)
        if cases is not None:
            print_line(cases_line(cases))
    return 1 if (ledger is not None and ledger.is_wrong) or (cases is not None and not cases.is_good) else 0


def _store(url: str, partitions: int) -> dict[str, Any]:
    """Redis' memory, and for each view what an entity and an event kept costs, from a sample; empty when it is away."""
    client = connect(url, answer_wait_s=5.0)
    try:
        memory = client.info("memory")
        views = {
            view.name: _sampled(client, view) | _windows(RedisStore(client, view.name), view, partitions)
            for view in declared_features().views
        }
        return {
            "used_bytes": int(memory["used_memory"]),
            "limit_bytes": int(memory["maxmemory"]) or int(memory["total_system_memory"]),
            "keys": int(client.dbsize()),
            "views": views,
        }
    except (redis.RedisError, StoreUnreachable) as error:
        return {"error": str(error)}
    finally:
        client.close()


def _windows(store: RedisStore, view: View, partitions: int) -> dict[str, Any]:
    """How many events ``view`` keeps one by one at most, how many its windows hold, and in how many partitions that is
    too many; a partition whose state is missing, or of another feature set, is left out.
    """
    marks = (store.peek(partition, [])[0] for partition in range(partitions))
    known = [going.occupancy for mark in marks if mark and (going := read_mark(view, partitions, mark.metadata))]
    return {
        "memory_bytes": view.memory_bytes,
        "events_fit": view.new_occupancy(partitions).events_max * partitions,
        "events_in_windows": sum(occupancy.events for occupancy in known),
        "partitions_full": sum(occupancy.exact_after_ms > NEVER_MS for occupancy in known),
    }


def _sampled(client: Any, view: View) -> dict[str, int]:
    """Some entities of ``view``: how many, the events that they keep, the bytes that they take."""
    keys: list[bytes] = []
    cursor, scans = 0, 0
    while len(keys) < _SAMPLED_ENTITIES and scans < _SCANS_MAX:
        cursor, found = client.scan(cursor, match=f"{{{view.name}:*", count=_SCAN_KEYS, _type="string")
        keys += found
        scans += 1
        if cursor == 0:
            break
    pipeline = client.pipeline(transaction=False)
    for key in keys[:_SAMPLED_ENTITIES]:
        pipeline.memory_usage(key).get(key)
    answers = pipeline.execute()
    entities, events, taken_bytes = 0, 0, 0
    for usage, value in zip(answers[::2], answers[1::2], strict=True):
        try:
            kept = unpack(view, value).exact_events if value is not None else None
        except Fatal:
            kept = None  # of another feature set
        if kept is not None:
            entities += 1
            events += kept
            taken_bytes += int(usage or 0)
    return {"entities": entities, "events": events, "bytes": taken_bytes}


def _capacity(log: LogReader, stages: list[StageStatus], store: dict[str, Any]) -> dict[str, Any]:
    """What memory can carry: identities of ingestion, events of the views' windows."""
    environment = Environment(os.environ)
    settings = IngestionSettings.read(environment)
    environment.check()
    gauges = {stage.stage: stage.gauges for stage in stages}
    views = store.get("views", {})
    bytes_an_event = sum(view["bytes"] / view["events"] for view in views.values() if view["events"])
    days = max(view.kept_span_ms for view in declared_features().views) / DAY_MS
    features: dict[str, Any] = {
        "entities_in_process": {
            name: counts.get("weir_state_entities", 0)
            for name, counts in gauges.items()
            if name.startswith("features-")
        },
        "window_days": days,
    }
    if bytes_an_event:
        features["bytes_an_event"] = round(bytes_an_event, 1)
        features["events_per_s"] = round(store["limit_bytes"] / bytes_an_event / (days * 86_400), 1)
    seen = capacity_line(settings.seen_memory_bytes, settings.rules.lateness_ms, log.partitions(EVENTS))
    held = gauges.get("ingestion", {}).get("weir_seen_identities", 0)
    return {"ingestion": {"seen_identities": held, "text": seen}, "features": features}


def _lookup_lag(log: LogReader, given: argparse.Namespace) -> int | None:
    """Records that the index has not read; None when there is no index to ask."""
    ends = log.ends(*INDEXED)
    try:
        with IndexReader(given.data_dir / LOOKUP_FILE) as index:
            progress = index.progress()
    except Transient:
        raise
    except WeirError:
        return None
    return sum(max(0, end - progress.get(where, 0)) for where, end in ends.items())


def _lookup_line(lag: int | None) -> str:
    return f"{'lookup':18} {'':6} {'no index' if lag is None else f'{lag:,}':>9}"


def _show(stages: list[StageStatus], others: list[str], store: dict[str, Any], capacity: dict[str, Any]) -> None:
    print_line(f"{'stage':18} {'ready':>6} {'lag':>9} {'events/s':>9} {'input age':>10} {'us/event':>9}  in force")
    for stage in stages:
        versions = " ".join(f"{what} {version}" for what, version in sorted(stage.versions.items()))
        print_line(
            f"{stage.stage:18} {f'{stage.ready}/{stage.instances}':>6} {stage.lag:>9,} {stage.rate_per_s:>9,.0f} "
            f"{f'{stage.input_age_ms:,.0f} ms':>10} {stage.step_us:>9,.0f}  {versions}".rstrip()
        )
        for note in _notes(stage):
            print_line(f"{'':18} {note}")
    for line in others:
        print_line(line)
    if "error" in store:
        print_line(f"redis: does not answer: {store['error']}")
    else:
        print_line(f"redis: {_mib(store['used_bytes'])} of {_mib(store['limit_bytes'])}, {store['keys']:,} keys")
    print_line(f"{capacity['ingestion']['text']}; {capacity['ingestion']['seen_identities']:,} held now")
    features = capacity["features"]
    entities = ", ".join(f"{name} {count:,}" for name, count in features["entities_in_process"].items())
    line = f"features: entities in process: {entities}"
    if "bytes_an_event" in features:
        line += (
            f"; {features['bytes_an_event']:,.0f} bytes an event in both views; {_mib(store['limit_bytes'])} carry "
            f"{features['events_per_s']:,.0f} events/s sustained, kept for {features['window_days']:.0f} days, with "
            "entities as full as they are now"
        )
    print_line(line)
    for name, view in store.get("views", {}).items():
        print_line(_room(name, view))


def _room(name: str, view: dict[str, Any]) -> str:
    held, fit, full = view["events_in_windows"], view["events_fit"], view["partitions_full"]
    line = f"{name} windows: {held:,} events held, {_mib(view['memory_bytes'])} fit {fit:,} one by one"
    return f"{line}; {full} partitions are full: their oldest events are in tiles (saturated)" if full else line


def _notes(stage: StageStatus) -> list[str]:
    """What a person should know beside the numbers."""
    notes = [f"halted: {stage.halted}"] if stage.halted else []
    if stage.gauges.get("weir_state_unreachable"):
        notes.append(f"{stage.gauges['weir_state_unreachable']} partitions are catching up their state")
    for name, counts in (("refused", stage.rejects), ("status", stage.statuses), ("actions", stage.actions)):
        if counts:
            notes.append(f"{name}: " + ", ".join(f"{label} {count:,}" for label, count in sorted(counts.items())))
    if stage.duplicates:
        notes.append(f"repeats without a second decision: {stage.duplicates:,}")
    return notes


def _show_ledger(ledger: Ledger) -> None:
    print_line(
        f"verified from the log: {ledger.events_in:,} in, {ledger.accepted:,} accepted, {ledger.decisions:,} decided, "
        f"{ledger.undecided:,} on their way, {ledger.dead_letters:,} dead letters; missing {ledger.missing}, "
        f"duplicates {ledger.duplicates}, without an accepted event {ledger.strangers}"
    )
    told = ledger.outcomes
    assert told is not None, "without a deadline there is time for all"
    print_line(
        f"outcomes: {told.accepted:,} accepted, {told.joined:,} joined, {told.pending:,} pending, "
        f"{sum(told.orphans.values()):,} orphans; lost {told.lost}, in two places {told.doubled}, "
        f"never accepted {told.strangers}; {told.labels:,} labels, {told.matured:,} of them matured"
    )


def _mib(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"
