"""Scores every event with the model in force.

Consumes ``features.v1``, and ``models.v1`` whole. Does: one calibrated probability per event, reason codes for those
that may be stopped, a swap of models between two batches. Produces ``scores.v1``. Guarantees: one score per vector; the
score of a vector depends on the model and the vector alone, never on what else was in the batch; a model that is not
signed, not ours or not able to answer its own golden rows never scores anything.
"""
