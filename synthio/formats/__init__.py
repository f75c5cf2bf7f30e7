"""Sound files and tables as people have them, down to their bytes."""
