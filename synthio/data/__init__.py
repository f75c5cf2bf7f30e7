"""Data sets of others as manifests, and what is wrong with a manifest."""
