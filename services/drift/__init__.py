"""Drift: notices that data, scores or decisions are no longer what they were."""
