"""Turn a score into an action that a business stands behind.

Consumes: ``scores.v1`` (the scored event with its feature vector) and ``policies.v1`` (which policies are at work).
Does: applies the declared policy: lists, rules, thresholds on the calibrated score and on the loss to be expected,
limits for people and machines, and stricter sections for the times when there is no model yet or the features were out
of reach. A new policy may run beside, or decide for a share of the customers. Rules that fire far above their expected
rate are stopped, and a day has only so many reviews.
Produces: ``decisions.v1``, one record an event: action, reasons, rules that hit, how every condition stood, what
policies beside would have done, versions of everything involved.
Guarantees: exactly one decision for each scored event; the same log and policy give the same decisions today, in
shadow, and in a backtest, because one compiled policy serves all three. What the log's order decides (fuses, the review
budget) is kept in ``decisions.v1`` itself, so that no crash and no rebalance changes it. It cannot repair what came
before it: a decision is only as fresh as the vector and the score that travelled in the record.
"""
