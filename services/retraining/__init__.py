"""Retraining: decides when to train, whom to try, whom to promote, and when to take it back.

Consumes
    ``labels.v1``, ``drift-alerts.v1``, and ``models.v1`` whole. Only what was committed.

Does
    The controller (``python -m services.retraining``) is a Faust application around a pure core,
    ``controller.step(state, event) -> (state, actions)``, in event time. A harm alert or the weekly schedule asks for a
    training; guards answer (enough labels of one fixed age, new frauds, cool-down, budget). A trainer
    (``python -m services.retraining.trainer``), a process of its own, reads ``labels.v1`` whole, writes a snapshot,
    learns from what it reads back, and leaves a signed bundle. The first model serves at once; any later one runs
    beside the champion. ``evidence`` compares both on the same labelled events, none of which either can have learned
    from (``holdout``), and ``betting`` says when it is enough: a test that may be looked at every day. Then gates, a
    canary, promotion; the one before is watched by the same test the other way round, and comes back when it would have
    been better.

Produces
    ``models.v1``: bundles and moves, each with what it rests on and the champion that it expects; notes of every
    trigger, refusal and failure.

Guarantees
    A challenger that is no better than the champion is ever promoted with a chance of at most 5% (``alpha``). No label
    observed after the cut-off is learned from, and nobody unknown is taken for genuine. The same data in any order
    gives the same model. A trainer or a controller that is killed leaves nothing half done: what serves goes on, and
    what was decided is in ``models.v1``. Labels that come twice count once; what does not decode is counted and
    skipped.
"""
