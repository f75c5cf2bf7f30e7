"""What the hub's objections mean; pushes themselves are tested with the script."""

from __future__ import annotations

import pytest
from huggingface_hub.errors import OfflineModeIsEnabled

from synthio.cli import UserError
from synthio.models.hub_upload import answer, objection, telling


@pytest.mark.parametrize(
    ("status", "said", "words"),
    [
        (402, "", "the hub has no room"),
        (403, "Your storage patterns tripped our internal systems!", "the hub has no room"),
        (403, "Forbidden", "is me you, or an organisation"),
        (404, "", "not there"),
        (412, "", "somebody else changes it"),
        (429, "", "wants a pause"),
        (502, "", "trouble of its own"),
        (418, "teapot", "me/x: the hub refuses it (418: teapot)"),
    ],
)
def test_a_status_is_told_with_its_mend(status, said, words):
    assert words in answer(status, said, "me/x") and "\n" not in answer(status, said, "me/x")


def test_causes_are_looked_through():
    """The client wraps what happens in its threads."""
    try:
        try:
            raise OfflineModeIsEnabled("offline")
        except OfflineModeIsEnabled as error:
            raise RuntimeError("Error while uploading 'a.wav' to the Hub.") from error
    except RuntimeError as error:
        assert objection(error, "me/x").startswith("HF_HUB_OFFLINE is set")
    full = ValueError("LFS batch API returned errors:\nOID 0: `You have exceeded your quota`")
    assert "the hub has no room for it (LFS batch API returned errors: OID 0" in objection(full, "me/x")
    assert objection(RuntimeError("a fault of ours"), "me/x") == ""


def test_a_token_in_a_message_is_not_shown_and_faults_of_ours_stay():
    with pytest.raises(UserError, match=r"refuses it \(bad header Bearer \*\*\*\)"), telling("me/x", "hf_abc"):
        raise ValueError("bad header Bearer hf_abc")
    with pytest.raises(ZeroDivisionError), telling("me/x", "hf_abc"):
        raise ZeroDivisionError
    with pytest.raises(RuntimeError, match="a fault"), telling("me/x", "hf_abc"):
        raise RuntimeError("a fault of ours")
