"""A feature set as declared in ``schemas/<domain>/features.yaml``, checked whole at start.

    name: payments
    views:                                # in the order of the vector; one link of the chain each
      - name: customer
        entity: customer_id               # field of the event that names the entity
        lateness: 1d                      # how far behind its entity's newest event one may come and be placed exactly
        exact_events_max: 4096            # above so many kept events the oldest of an entity become tiles
        tile_width: 1h                    # doubled for an entity when memory is short
        memory: 1G                        # of all partitions; above it the oldest events of all become tiles
        features:
          - names: "customer_count_{window}"   # one feature a window
            op: count
            windows: [5m, 1h]
            delay: 7d                     # windows end so long before the event; default none
            about: "What a person should know of it."

Ops: ``amount``, ``is_weekend``, ``is_night`` need the event alone and come first in a view; ``count``, ``amount_mean``,
``fraud_rate`` (known frauds / events), ``known_fraud_rate`` (frauds / labelled events), ``known_labels`` have windows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import Final

from services.features.checks import DeclaredView, check_feature_set
from services.features.kernel import View
from services.features.windows import EVENT_OPS

# Raise it when the same declarations begin to mean other numbers: the content hash changes with it.
KERNEL_VERSION: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSet:
    """All features of a domain.

    ``content_hash``: 16 hex digits over everything that decides a vector's numbers (the texts do not). ``names``:
    order of the whole vector, view behind view. ``abouts``: one text a name. ``event_only``: places in the vector of
    the features that need the event alone.
    """

    name: str
    content_hash: str
    names: tuple[str, ...]
    abouts: tuple[str, ...]
    views: tuple[View, ...]
    event_only: tuple[int, ...]

    def view(self, name: str) -> View:
        """The view of that name; raises KeyError."""
        for view in self.views:
            if view.name == name:
                return view
        raise KeyError(name)


def load_feature_set(text: str, place: str) -> FeatureSet:
    """The feature set that YAML ``text`` declares; ``place`` (the file) is for messages.

    Raises Fatal with every mistake in it, each with its value, its place and what to write instead.
    """
    name, declared = check_feature_set(text, place)
    content_hash = _content_hash(name, declared)
    views: list[View] = []
    for view in declared:
        views.append(
            View(
                name=view.name,
                entity_field=view.entity_field,
                first=sum(before.count for before in views),
                lines=view.lines,
                lateness_ms=view.lateness_ms,
                exact_events_max=view.exact_events_max,
                tile_width_ms=view.tile_width_ms,
                memory_bytes=view.memory_bytes,
                store_mark=blake2b(f"{content_hash}/{view.name}".encode(), digest_size=8).digest(),
            )
        )
    lines = [(line, feature) for view in views for line in view.lines for feature in line.names]
    return FeatureSet(
        name=name,
        content_hash=content_hash,
        names=tuple(feature for _, feature in lines),
        abouts=tuple(line.about for line, _ in lines),
        views=tuple(views),
        event_only=tuple(place for place, (line, _) in enumerate(lines) if line.op in EVENT_OPS),
    )


def _content_hash(name: str, views: tuple[DeclaredView, ...]) -> str:
    canonical = {
        "kernel": KERNEL_VERSION,
        "name": name,
        "views": [
            {
                "name": view.name,
                "entity": view.entity_field,
                "lateness_ms": view.lateness_ms,
                "exact_events_max": view.exact_events_max,
                "tile_width_ms": view.tile_width_ms,
                "memory_bytes": view.memory_bytes,
                "features": [[list(line.names), line.op, list(line.windows_ms), line.delay_ms] for line in view.lines],
            }
            for view in views
        ],
    }
    return sha256(json.dumps(canonical, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]
