"""Features of one entity view, computed as events arrive.

Consumes: the view's own input (``events.v1`` for customers, ``updates.terminal.v1`` for terminals), keyed by entity.

Does: keeps each entity's recent events in the owning process; computes every declared feature at an event's own time.

Produces: the event with its vector, for the next view or, after the last, for scoring.

Guarantees: a vector is a function of the log before it, bit for bit; ``feature_status`` says where tiles
(``saturated``: of a busy entity, or of all while memory is full), lateness (``stale``) or a store out of reach
(``fallback``) stood in the way. Nothing is counted twice or skipped. The store is a cache: it may be lost whole, while
all is quiet too, or hold the state of another feature set, and is rebuilt from the log.
"""
