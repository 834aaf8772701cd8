"""Evaluation: metrics, calibration, scores of cases and cohorts."""
