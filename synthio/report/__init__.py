"""What a run has made, as tables, measures and a page."""
