"""What is trained at each stage: the modules, the batches and the losses."""
