"""One resumable training loop, on one device or several, and what logs it."""
