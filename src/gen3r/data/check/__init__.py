"""Checks of a dataset: `gen3r data check`."""
