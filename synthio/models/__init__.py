"""Model backends, one file each; `synthio.models.load` finds the one that a stage was asked for."""

from collections.abc import Iterable

CHECKPOINT_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth")


def is_published_stable_audio_3(names: Iterable[str]) -> bool:
    """Whether these are the files of a Stable Audio 3 as its makers publish it: its text encoder tells it.

    Args:
        names: of the files and folders of a model.
    """
    names = set(names)
    return (
        "model_config.json" in names
        and "model_index.json" not in names
        and any(name.startswith("t5gemma") for name in names)
    )
