"""How any stage is trained: the loop, checkpoints, optimizers, logs."""
