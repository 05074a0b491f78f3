"""Published checkpoints and our own pipeline folders."""
