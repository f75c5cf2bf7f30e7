"""Text to audio: objectives, solvers, preference pairs and their loss."""
