"""Ingestion: the door of the mesh. What passes it is valid, on time, in its customer's partition, and there once.

Two processes share this room, one for each raw topic (``WEIR_INTAKE``): ``ingestion`` judges events and
``ingestion-outcomes`` outcomes, by the same rules and the same code. What follows is said of events; of outcomes it
holds for ``outcomes.raw.v1`` and ``outcomes.v1``, with ``outcome_id`` for the identity and ``observed_time_ms`` for the
clock. An outcome may be months younger than its event; late is only one that was *observed* more than
``WEIR_OUTCOME_LATENESS`` (45 days) before the partition's latest observation, which bounds the memory of repeats.

Consumes
    ``events.raw.v1``: payments as producers send them, JSON or registry Avro, told apart by the magic byte.
    ``outcomes.raw.v1``: what they turned out to be, the same way.

Does
    Checks every record, in this order; the first check that fails names the reject code:

    1. bytes: tombstone, too_large (64 kB), malformed_json, malformed_avro, unknown_schema;
    2. fields: unknown_field, missing_field, then field by field wrong_type and out_of_range;
    3. partition: a record in another partition than its customer's is sent once more to ``events.raw.v1`` under its
       right key; one that still stands wrong after that is wrong_key;
    4. time: clock_ahead (of the broker's append time), clock_jump and late (against the partition's event-time clock);
    5. identity: a repeat with the same body is dropped and counted, one with another body is a conflict.

    A refused record neither moves the clock nor is remembered.

Produces
    ``events.v1``: accepted payments in normal form, in the partition they were accepted from, keyed by customer.
    ``outcomes.v1``: accepted outcomes, likewise.
    ``dead-letters.v1``: every refused record with its bytes and cause. ``events.raw.v1``: records under a wrong key.

Guarantees
    An identity is accepted once as long as its first event is within the allowed lateness of the clock; older repeats
    are late, so bounded memory leaves no hole. (An identity used again with a newer time, after its first event has
    left that span, is a new event.) Verdicts are a function of the log alone: restarts, rebalances, and the loss of
    the state store change none of them.
"""
