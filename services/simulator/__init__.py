"""The outside world: producers that send payments, and those who later learn what the payments were.

Consumes    decisions.v1, only to see how far the mesh has come
Does        makes a seeded world of card payments, or reads a file of them; paces them; bounds what is in flight
Produces    events.raw.v1 (JSON, keyed by customer) and, after their delay in event time, outcomes.raw.v1
Guarantees  the truth never travels inside an event; an outcome never precedes its delay; a stop and a second start
            leave nothing out. What was sent but not yet acknowledged at a crash is looked up in the log and not sent
            again.

Start at ``world.py`` for the payments, ``sender.py`` for their way out.
"""
