"""What a script says in one line: mistakes of the user's, damaged files, a machine that has no room left."""

from __future__ import annotations

import errno
import os
import re

GOES_ON = "the same command then goes on"
# what the system said: (in words, what mends it)
TROUBLES = {
    errno.ENOSPC: ("the disk is full", "free some space"),
    errno.EDQUOT: ("your quota of the disk is used up", "free some space"),
    errno.EFBIG: ("the file would be larger than is allowed", "raise the limit (ulimit -f) or choose another folder"),
    errno.EROFS: ("the disk is mounted for reading alone", "choose another folder"),
    errno.EACCES: ("permission denied", "give yourself the right to it, or choose another place"),
    errno.EPERM: ("permission denied", "give yourself the right to it, or choose another place"),
    errno.EIO: ("the disk fails to read or write it", "see to the disk, or choose another place"),
    errno.ESTALE: ("the disk is no longer there", "mount it again"),
    errno.EMFILE: ("too many open files", "raise the limit (ulimit -n)"),
    errno.ENAMETOOLONG: ("the name is too long for this disk", "choose a shorter one"),
}
MEMORY = "the memory is used up; take a smaller batch or fewer processes side by side"
# messages of torch, which has no class for the memory of a CPU
NO_MEMORY = re.compile(r"can't allocate memory|out of memory|not enough memory", re.IGNORECASE)
SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")  # how libraries in Rust pass on what the system said


class UserError(ValueError):
    """A mistake in what the user gave us; the message names the file, row and value and says how to mend it."""


def system_error(error: BaseException) -> OSError | None:
    """What the system said, where a library has put it into its own words; an OSError as it is."""
    if isinstance(error, OSError):
        return error
    found = SYSTEM_ERROR.search(str(error))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else None


def trouble(error: BaseException) -> str:
    """What is wrong with the machine and how to mend it, in one line; '' for a fault of ours, whose place counts."""
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and NO_MEMORY.search(str(error))):
        return f"{MEMORY}; {GOES_ON}"
    said = system_error(error)
    if said is None or said.errno is None:
        return ""
    if said.errno == errno.ENOMEM:
        return f"{MEMORY}; {GOES_ON}"
    words, mend = TROUBLES.get(said.errno, (str(said.strerror).lower(), "see to it"))
    where = f"{said.filename}: " if said.filename is not None else ""
    return f"{where}{words}; {mend}, and {GOES_ON}"
