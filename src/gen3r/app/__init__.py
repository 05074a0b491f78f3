"""`gen3r app`: scenes made and looked at in a browser, one job at a time."""
