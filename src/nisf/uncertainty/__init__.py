"""How sure: error bars on measures, and what they and calibrated probabilities are fitted on."""
