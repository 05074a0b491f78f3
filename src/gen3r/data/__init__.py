"""Clips with cameras and depth: the record, and the procedural world that makes them."""
