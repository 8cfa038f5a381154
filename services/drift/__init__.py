"""Notices when data, scores, decisions or their quality move beyond what chance explains, and says so once.

Consumes: ``profiles.v1`` (what scoring, decisions and ingestion counted), ``labels.v1`` (what events turned out to be)
and ``models.v1`` (each model's frozen reference), read committed, as a Faust application of one worker.

Does: merges profiles by window, segment and model version; once an event-time day compares them with the reference,
labels with scores, and what came with what should have come; keeps which alerts hold.

Produces: ``drift-alerts.v1``, and a report (JSON and one HTML page) in ``WEIR_DRIFT_DIR``.

Guarantees: detection only; nobody's decision waits for it. A profile or label that comes twice counts once. All state
is derived and rebuilt from the log at each start; which alerts hold is read from ``drift-alerts.v1`` itself, so an
alert is raised once and cleared once. A raise may be repeated after a crash, under the same ``alert_id``. What was not
counted (a stage that died before it told) is reported as coverage. False alarms stay within what people tolerate a week
as long as days are exchangeable with those of the reference.
"""
