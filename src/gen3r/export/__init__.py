"""A scene as files that other programs open. Importing this loads nothing heavy, so `--help` can list the formats."""
