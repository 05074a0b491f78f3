"""Images and videos as people have them, read as they are shown."""
