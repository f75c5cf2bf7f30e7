"""The adapter that clips are made with: a folder, or what synthio.report.judge found of one."""

from __future__ import annotations

from pathlib import Path

from synthio.files import read_object

ADAPTER, USED = "adapter", "used"  # in the JSON


def chosen_adapter(given: str) -> str:
    """The folder of the adapter; "" for none.

    Args:
        given: such a folder, the JSON of synthio.report.judge, or "".

    Raises:
        UserError: the JSON is damaged, or does not say whether the adapter is used.
    """
    if not given.endswith(".json"):
        return given
    record = read_object(given, ADAPTER, USED)
    return str(Path(given).parent / str(record[ADAPTER])) if record[USED] is True else ""
