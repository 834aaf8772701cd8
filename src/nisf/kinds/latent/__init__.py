"""The paper's kind: one latent per subject, fitted to its intensities."""
