"""Many jobs into one folder, on this machine or a cluster: tables, checks, workers, scores, the manifest."""
