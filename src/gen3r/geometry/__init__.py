"""Points from depth, their masks, and alignment."""
