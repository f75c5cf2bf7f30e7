"""What is heard in gold clips, and the prompts that are made of it."""
