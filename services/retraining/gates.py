"""What a challenger must be besides better: calibrated, fast, no worse for anybody, made of labels that can be true.

Pure. Each gate answers with the reason why not, or with nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from services.retraining.evidence import SEGMENTS, Standing
from services.retraining.settings import Rules


def before_shadow(measures: Mapping[str, float], feature_set: str, served_set: str, rules: Rules) -> list[str]:
    """Of a bundle fresh from the trainer. ``measures``: what the trainer measured on the validation's rows.

    How it does against the champion is not asked here: what was validated is a label delay and a validation older than
    what was built, and beside the champion a model harms nobody.
    """
    why: list[str] = []
    if feature_set != served_set:
        why.append(f"it was trained on feature set {feature_set}, {served_set} is served")
    share = measures.get("low_half_fraud_share", 0.0)
    if share > rules.low_half_share_max:
        why.append(
            f"labels: {share:.1%} of the half of the validation that the champion finds safest is labelled fraud, at "
            f"most {rules.low_half_share_max:.0%} is believed; look at who labels"
        )
    precision, frauds, rows = (measures[n] for n in ("average_precision", "validation_frauds", "validation_rows"))
    if precision < rules.precision_lift_min * frauds / rows:
        why.append(f"average precision {precision:.3f} on the validation, where chance has {frauds / rows:.3f}")
    took_ms = measures.get("score_ms", 0.0)
    if took_ms > rules.score_ms_max:
        why.append(f"latency: 128 rows took {took_ms:.1f} ms, at most {rules.score_ms_max:.0f} are allowed")
    return why


def before_canary(standing: Standing, rules: Rules) -> list[str]:
    """Of a challenger whose evidence suffices: what else its labelled rows say."""
    why: list[str] = []
    if standing.frauds < rules.gate_frauds_min:
        return [f"{standing.frauds} labelled frauds since it runs beside, {rules.gate_frauds_min} are needed"]
    if not _is_calibrated(standing, rules):
        why.append(
            f"calibration: it expects {standing.expected_per_fraud_b:.2f} frauds for each that came, the champion "
            f"{standing.expected_per_fraud_a:.2f}; within a factor of {rules.calibration_ratio_max:.0f} is needed"
        )
    for segment, frauds, gain in zip(SEGMENTS, standing.segment_frauds, standing.segment_gain, strict=True):
        if frauds >= rules.gate_frauds_min and gain < -rules.segment_loss_max:
            why.append(f"segment {segment}: {-gain:.3f} of Brier lost per fraud, over {frauds} frauds")
    return why


def _is_calibrated(standing: Standing, rules: Rules) -> bool:
    """Near enough, or at least no worse than what it replaces."""
    own, champion = standing.expected_per_fraud_b, standing.expected_per_fraud_a
    if own <= 0:
        return False
    off = abs(math.log(own))
    return off <= math.log(rules.calibration_ratio_max) or (champion > 0 and off <= abs(math.log(champion)))
