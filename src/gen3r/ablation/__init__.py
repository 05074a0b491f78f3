"""Variants of nano, each with one change, trained alike and measured alike."""
