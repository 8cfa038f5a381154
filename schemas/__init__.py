"""Contracts as data: what crosses a topic (``*.avsc``), and a domain's declarations (``<domain>/``)."""
