"""Turns recorded vectors and labels into a signed model.

Consumes ``features.v1`` and ``labels.v1``. Does: a point-in-time dataset, a model with its fallback, calibration and
golden rows. Produces bundles on ``models.v1``. Guarantees: no label observed after the cut-off and no event younger
than the label delay is learned from; the same data in any order gives the same data hash and the same model.
"""
