"""Which generated clips are kept."""
