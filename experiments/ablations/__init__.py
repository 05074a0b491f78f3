"""Variants of nano with one change each, trained and evaluated alike: `python -m experiments.ablations`."""
