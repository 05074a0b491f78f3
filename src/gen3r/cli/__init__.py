"""The `gen3r` command, one file a subcommand. Nothing heavy is imported before the arguments are read."""
