"""Training a prior of any kind."""
