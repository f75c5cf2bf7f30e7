"""Saved classifiers as networks from waveforms to probabilities, of operators that ONNX has, for export."""
