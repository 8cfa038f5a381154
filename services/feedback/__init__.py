"""Feedback: joins outcomes with decisions into labels."""
