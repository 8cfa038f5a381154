"""Decisions, told to other systems over HTTP: one signed request for each, again until it was taken.

Consumes: ``decisions.v1``, read_committed, once for each subscription, in the group ``webhooks-<name>``: a receiver
that is slow or dead holds up nobody else. Subscriptions are the file that ``weir webhooks`` writes; a change of it is
in force within a second.

Does: posts each decision whose action the subscription wants, signed as Standard Webhooks say, some at once and those
of one customer one after the other. What fails in passing is sent again, later each time; a receiver that fails on and
on is asked by one request at a time until it answers.

Produces: ``dead-letters.v1``, for what a receiver refuses or does not take within the limits.

Guarantees: each decision is answered with 2xx at least once, or is exactly one dead letter: dead letters and offsets
are written in one transaction. A repeat has the same ``webhook-id``, so that a receiver can drop it. Decisions of one
customer arrive in the order of ``decisions.v1``, one that was given up left out. Attempts and ages are counted from the
last start: a restart gives each decision its whole time again.
"""
