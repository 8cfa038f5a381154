"""The gateway: the mesh over HTTP, for callers that speak no Kafka.

Consumes
    ``decisions.v1`` and ``dead-letters.v1``, read_committed, outside any group, and only while somebody asks: from
    where the index of ``services/lookup`` ends. The index's file.

Does
    ``POST /v1/events``, ``POST /v1/events:batch``, ``POST /v1/outcomes``: checks a body by the rules that ingestion
    judges by, appends it under its customer's key, answers 202 when the broker has acknowledged. ``POST /v1/decide``:
    the same, and waits for the decision until the caller's deadline. ``GET /v1/decisions/{event_id}``: what became of
    an event. Bearer tokens with scopes; limits on bytes, depth, batches, rate and requests at work; every refusal is
    problem+json (RFC 9457) with a code, the place and the remedy.

Produces
    ``events.raw.v1`` and ``outcomes.raw.v1``: the caller's own bytes, with the token's name in the header ``sender``.

Guarantees
    A 202 is given after the acknowledgement of all replicas, never before: that event becomes exactly one decision or
    exactly one dead letter, whatever dies then. A 503 promises nothing; the event may be in the log or not, and sending
    it again is harmless, because ingestion takes an identity once. What the gateway says of a decision is what
    ``decisions.v1`` holds; where it does not know in time, it says so (``decided: false``) and what to do meanwhile.
    What it remembers of bodies ends with its process: ingestion's word on a conflict is the last.
"""
