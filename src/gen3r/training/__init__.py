"""The stages that train a model set, each one resumable command."""
