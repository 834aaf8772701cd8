"""How good it is: metrics, calibration, scores of cases and cohorts."""
