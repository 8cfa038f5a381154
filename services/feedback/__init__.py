"""Feedback: joins what payments turned out to be with what was decided about them.

Consumes
    ``decisions.v1`` and ``outcomes.v1``, partition by partition together: one customer's decisions and outcomes have
    one owner.

Does
    Keeps every decision of the last 120 days of event time in a file of its partition and joins outcomes to it, in
    whatever order the two arrive:

    * an outcome without a decision waits until the partition's event time has passed its observation by the patience
      (one day); then nobody can have decided it any more, and it is an orphan, ``no_decision``;
    * each further outcome of an event is a new version of its label, whoever says it; one that ``revises`` must name an
      outcome of that event, or it waits for it as above and becomes an orphan, ``unknown_revision``;
    * an outcome that is told twice counts once;
    * an event that nobody has said anything about when the partition's event time passes its own by the maturity (30
      days) gets a matured label, genuine, version 0. Younger and unobserved is unknown, never genuine. Events mature in
      the order in which they were decided.

    Time is the greatest event time of the partition's decisions, in log order. An outcome of a decision that is older
    than 120 days is an orphan, ``decision_forgotten``.

Produces
    ``labels.v1``: the decision's own record, and what it turned out to be. ``outcomes.orphan.v1``: outcomes that belong
    to no decision. ``updates.terminal.v1``: labels that change what the terminal's features know: the first of an
    event, and each that differs from the one before; matured ones only while they are young enough to be in a window.
    ``dead-letters.v1``: what does not decode.

Guarantees
    Every accepted outcome is in exactly one place: joined, waiting, or an orphan. Each label and each orphan is written
    once. The file is a cache of the log, never ahead of it and safe to lose: decisions and outcomes are read again, and
    what was made of them is taken from ``labels.v1`` and ``outcomes.orphan.v1``, because how the two inputs interleaved
    cannot be repeated. For the same reason two runs over the same input may write a different order of labels.
"""
