"""What the check of the three CSVs can be told."""

from __future__ import annotations

from dataclasses import dataclass

from synthio.options import LatentLength, MultiLabel, option


@dataclass(frozen=True)
class CheckOptions(MultiLabel, LatentLength):
    """What is done about findings."""

    on_bad_audio: str = option(
        "stop",
        "what to do with a clip that is missing or cannot be used; drops are listed in a file",
        choices=("stop", "drop"),
        driver="on_bad_audio",
    )
