"""Classifiers of frozen models: heads on their embeddings, what those models know of the labels, and both together."""
