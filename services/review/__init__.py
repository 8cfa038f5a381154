"""Keep the cases that people look into, from the decision that asks for it to what it turned out to be.

Consumes
    ``decisions.v1`` and ``labels.v1``, both keyed by customer: a partition of one and the same partition of the other
    belong together and are owned together.

Does
    A decision with the action ``review`` opens a case: what is at stake, what loss is to be expected (the score times
    the amount), why, and when it is due. Cases wait in Redis in the order of their expected loss, where the console and
    ``weir review`` claim and judge them (``services/mesh/review_desk.py``). This service keeps three promises to them:

    * there are never more than people can do: beyond ``WEIR_REVIEW_OPEN_MAX`` cases at once, or
      ``WEIR_REVIEW_PER_DAY`` that came in one day (UTC, by the wall clock: people live by it), the least costly ones
      overflow. They are marked, counted and audited, and the action of ``WEIR_REVIEW_OVERFLOW`` holds for them. Who
      works on a case, or has judged it as the first of two, keeps it;
    * a case that is not judged within ``WEIR_REVIEW_SLA`` of its decision, by the wall clock, goes to supervisors;
    * a case ends when its event gets a label, whoever gave it: a verdict on the case comes back through ``labels.v1``
      like every other outcome, and closes it as ``verdict``; a chargeback, a customer or another analyst close it as
      ``elsewhere``; the horizon of labels as ``matured``. One that is open for 40 days expires.

Produces
    ``reviews.v1``: each step in the life of each case. ``audit.v1``: what this service did to cases by itself.
    ``dead-letters.v1``: what does not decode.

Guarantees
    Each decision with the action ``review`` has exactly one case, also when its label comes first, and each case ends
    once. The record is ``reviews.v1``: what this service knows is what that topic adds up to, read again at each start
    and takeover. Redis is a view, written after the commit and whole again within seconds of its loss; lost with it are
    claims, and a verdict that was being sent at that moment, which its analyst repeats. Where several instances share
    the work, each keeps its share of the limits.
"""
