"""The page that a person opens: what flows, how fast, what is decided, how good it is, and the work that waits.

Consumes: the newest of ``decisions.v1`` (a bounded sample once a second), ``models.v1``, ``policies.v1`` and
``drift-alerts.v1`` from their start, all outside any group and read_committed; offsets of groups; every process' health
and ``/metrics``; Redis' numbers; the lookup index; drift's report; stored backtests.

Does: gathers once a second into one small picture that every open page is sent over server-sent events; answers what a
page asks for (one event's trace, dead letters, journals, the review queue); signs people in and lets each role do what
it may.

Produces: nothing of its own. A requeue sends a refused record once more to the topic that it came to; what an analyst
says goes through the mesh's review interface.

Guarantees: memory and cost do not grow with the stream: histories are rings, samples have limits, and nothing is asked
more often because more people look. Nothing here is truth: it can be killed at any time and starts anew. Text from
events is only ever shown as text.
"""
