"""Latents of clips, encoded once by the frozen models and stored for training."""
