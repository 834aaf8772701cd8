"""Uncertainty: error bars on measures, and the data on which they and calibration are fitted."""
