"""Words for the models: the label template, and what MixCap pools."""

from __future__ import annotations

from synthio.manifest import label_words


def label_prompt(label: str) -> str:
    """The template of the paper (section 3.2) for a label cell: 'dog_bark' -> 'Sound of a dog bark'."""
    return f"Sound of a {label_words(label)}"
