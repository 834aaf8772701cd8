"""Export networks as files that other programs run."""
