"""Weir: services that meet in Kafka topics, never in imports.

Each folder is one service: its name is the folder, the module (``python -m services.<name>``), the process, the
consumer group and the metric prefix. ``services.mesh`` is the fabric they share and the only room that is not
deployable; ``services.mesh.topology`` is the page to read first.
"""
