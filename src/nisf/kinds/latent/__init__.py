"""The paper's kind: a latent per subject, fitted to its intensities."""
