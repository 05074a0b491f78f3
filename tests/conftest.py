"""What all tests share."""

import torch
from hypothesis import settings

# Timings vary on shared machines; the same examples every time keep a failure reproducible.
settings.register_profile("gen3r", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("gen3r")
torch.set_num_threads(1)
