"""Model backends, one file each; `synthio.models.load` finds the one that a stage was asked for."""

CHECKPOINT_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth")
