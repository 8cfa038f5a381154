"""The index from an event's ids to where its records lie, so that nobody scans the log for one event.

Consumes: ``decisions.v1``, ``dead-letters.v1``, ``outcomes.raw.v1``, ``labels.v1`` and ``outcomes.orphan.v1``,
read_committed, outside any group.

Does: keeps (hash of event_id, hash of customer_id) -> (topic, partition, offset) in one SQLite file, which commands and
the gateway read while it is written. A decision's headers lead back to all the hops before it.

Produces: nothing.

Guarantees: what the file says it has read is in it, exactly once: entries and offsets are written in one transaction.
It trails the log by about a second; readers catch up that tail themselves. The file is derived: lost or corrupt, it is
built anew from the log. A hash may name a stranger's record too, so a reader compares the ids of what it finds.
"""
