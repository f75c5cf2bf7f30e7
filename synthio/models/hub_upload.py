"""Bring a folder to the Hugging Face hub, by its own client, and say in one line what the hub objects to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from synthio.cli import UserError, printable

TOKENS = "https://huggingface.co/settings/tokens"
FULL = ("storage", "quota", "limit reached", "too large")  # words of the hub's own messages on room


class Pushed(NamedTuple):
    """What came of it: where it is, and whether anything was new."""

    url: str
    is_new: bool


def find_token() -> str:
    """The user's token: HF_TOKEN, or that of `hf auth login`.

    Raises:
        UserError: there is none.
    """
    from huggingface_hub import get_token

    token = get_token()
    if not token:
        raise UserError(f"no token for the hub; set HF_TOKEN to one that may write ({TOKENS}), or `hf auth login`")
    return token


def push(folder: Path, repo: str, kind: str, public: bool, replaced: Sequence[str], message: str) -> Pushed:
    """Make the repository if it is not there, and bring the files of a folder into it in one commit.

    What is there already, by hash, is not sent again, so that the same command goes on after a break.

    Args:
        folder: its files go to the root of the repository.
        repo: owner/name.
        kind: dataset or model.
        public: whether everybody may see it. A repository that is there keeps what it is.
        replaced: patterns of files that go where the folder has them not.
        message: of the commit.

    Raises:
        UserError: one line on what is to be mended.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars, logging

    token = find_token()
    logging.set_verbosity_error()
    if not os.isatty(2):
        disable_progress_bars()
    api = HfApi(token=token)
    with telling(repo, token):
        url = api.create_repo(repo, repo_type=kind, private=not public, exist_ok=True)
        before = api.repo_info(repo, repo_type=kind)
        if before.private is False and not public:
            raise UserError(f"{repo} is there, and public; give --public if everybody may see this, or another --repo")
        done = api.upload_folder(
            repo_id=repo,
            repo_type=kind,
            folder_path=folder,
            commit_message=message,
            delete_patterns=list(replaced) or None,
        )
    return Pushed(str(url), done.oid != before.sha)


@contextmanager
def telling(repo: str, token: str) -> Iterator[None]:
    """Inside, what the hub and the network object to becomes one line, in which the token never stands."""
    from huggingface_hub.errors import HTTPError

    try:
        yield
    except UserError:
        raise
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        words = objection(error, repo)
        if not words:
            raise
        raise UserError(printable(words.replace(token, "***"))) from None


def objection(error: BaseException, repo: str) -> str:
    """What an error of the hub's client means and how to mend it; '' for one that is not the hub's."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

    cause = next(filter(None, (found(error, kind) for kind in (HfHubHTTPError, OfflineModeIsEnabled, HTTPError))), None)
    if isinstance(cause, HfHubHTTPError):
        return answer(cause.response.status_code, said_by(cause), repo)
    if isinstance(cause, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so that nothing can be pushed; unset it"
    if cause is not None or found(error, ConnectionError):
        return "the hub is not in reach; see to the network, and the same command goes on where it was"
    text = " ".join(str(error).split())
    if any(word in text.lower() for word in FULL):
        return f"{repo}: the hub has no room for it ({text}); {ROOM}"
    return f"{repo}: the hub refuses it ({text})" if isinstance(error, ValueError) else ""


ROOM = "remove something there or take another plan, and the same command goes on"


def found(error: BaseException | None, kind: type[BaseException]) -> BaseException | None:
    """The first of an error and its causes that is of a kind: the client wraps what happens in its threads."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


def said_by(error: BaseException) -> str:
    """The hub's own words, in one line."""
    return " ".join(str(getattr(error, "server_message", "") or "").split())


def answer(status: int, said: str, repo: str) -> str:
    """What a status of the hub means for a push, and the mend."""
    owner, because = repo.partition("/")[0], f": {said}" if said else ""
    if status in (402, 413, 507) or (status == 403 and any(word in said.lower() for word in FULL)):
        return f"{repo}: the hub has no room for it ({status}{because}); {ROOM}"
    known: dict[int, Callable[[], str]] = {
        401: lambda: f"the hub refuses the token (401); make a new one that may write at {TOKENS}",
        403: lambda: (
            f"{repo}: this token may not write there (403{because}); is {owner} you, or an organisation in which you "
            f"may write? A token that may write comes from {TOKENS}"
        ),
        404: lambda: f"{repo}: not there (404), or this token may not see it; see to the name, and to the token",
        409: lambda: f"{repo}: somebody else changes it at this moment (409{because}); the same command goes on",
        412: lambda: f"{repo}: somebody else changes it at this moment (412{because}); the same command goes on",
        429: lambda: "the hub wants a pause (429: too many requests); wait some minutes, and the same command goes on",
    }
    if status in known:
        return known[status]()
    if status >= 500:
        return f"the hub has trouble of its own ({status}{because}); later, the same command goes on"
    return f"{repo}: the hub refuses it ({status}{because})"
