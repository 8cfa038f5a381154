"""Turn a score into an action that a business stands behind.

Consumes: ``scores.v1`` (the scored event with its feature vector) and ``policies.v1`` (which policy is in force).
Does: applies the declared policy: lists, rules, thresholds on the calibrated score, and stricter sections for the
times when there is no model yet or the features were out of reach.
Produces: ``decisions.v1``, one record an event: action, reasons, rules that hit, versions of everything involved.
Guarantees: exactly one decision for each scored event; the same event, score and policy version give the same
decision today, in shadow, and in a backtest, because one compiled policy serves all three. It cannot repair what came
before it: a decision is only as fresh as the vector and the score that travelled in the record.
"""
