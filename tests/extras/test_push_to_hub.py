"""What is pushed, by the hub's own client, to a hub on this machine; what never is; what its objections become."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from synthio.files import EMBEDDED, write_json
from synthio.manifest import read_manifest
from tests.hub_server import PART_BYTES, Store, hub_server
from tests.report.test_page import save_run
from tests.scripts import ROOT, call_script

SCRIPT = ROOT / "extras/push_to_hub.py"
TOKEN = "hf_verysecrettoken"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with its dataset; the generator is the embedded one."""
    work = save_run(tmp_path_factory.mktemp("push") / "w", "hub/clap", rounds=1)
    write_json(work / "round_0/generated.json", {"options": {"model": str(EMBEDDED / "text_to_audio")}, "versions": {}})
    export(work, work / "dataset")
    return work


def export(work: Path, folder: Path, *more) -> None:
    words = ["--input_csv", work / "train_8_synthetic.csv", "--output_folder", folder, "--work", work, *more]
    done = call_script(ROOT / "extras/export_dataset.py", *words)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def hub():
    """(a store, the address of its hub)."""
    store = Store({TOKEN: ("me", "lab")})
    with hub_server({}, store) as address:
        yield store, address


@pytest.fixture
def push(run_script, hub, tmp_path):
    """push(folder, *words) -> Done; the token is in no line that it prints."""
    known = {"HF_ENDPOINT": hub[1], "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN}

    def run(folder, *words, repo="me/mine", **env):
        done = run_script(SCRIPT, "--folder", folder, "--repo", repo, *words, env=known | env)
        assert TOKEN not in done.stdout + done.stderr and "Traceback" not in done.stderr, done.stderr
        return done

    return run


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_dataset_arrives_privately_and_whole_and_a_second_push_sends_nothing(made, hub, push):
    store, address = hub
    done = push(made / "dataset")
    assert done.returncode == 0, done.stderr
    assert "dataset: 10 files" in done.stdout and f"to {address}/datasets/me/mine (private)" in done.stdout
    assert "licence of the generator: CC BY-NC" in done.stdout and "use no clip commercially" in done.stdout
    kept = store.repos["dataset", "me/mine"]
    assert kept.private and kept.commits == 1 and kept.files == files_of(made / "dataset")
    uploads = store.calls["upload"]
    assert uploads == 6 and f"pushed to {address}/datasets/me/mine" in done.stdout
    again = push(made / "dataset")
    assert again.returncode == 0 and "nothing new for" in again.stdout
    assert (store.calls["upload"], store.calls["commit"]) == (uploads, 1)


def test_what_an_earlier_push_had_and_this_one_has_not_goes(made, hub, push, tmp_path):
    assert push(made / "dataset").returncode == 0
    kept = hub[0].repos["dataset", "me/mine"]
    kept.files |= {"audio/old.wav": b"old", "picture.png": b"the user's own"}
    assert push(made / "dataset").returncode == 0
    assert kept.files == files_of(made / "dataset") | {"picture.png": b"the user's own"}


def test_a_dry_run_asks_nobody_and_needs_no_token(made, hub, push):
    done = push(made / "dataset", "--dry_run", HF_TOKEN="")
    assert done.returncode == 0 and not hub[0].calls
    listed = {line.split()[-1] for line in done.stdout.splitlines() if line.startswith("  ")}
    assert listed >= set(files_of(made / "dataset")) and " kB  audio/" in done.stdout


def test_recordings_go_only_when_it_is_said(made, hub, push, tmp_path):
    export(made, tmp_path / "all", "--with_gold", "true")
    refused = push(tmp_path / "all")
    assert refused.returncode == 2 and "8 of its clips are recordings (audio/" in refused.stderr and not hub[0].calls
    done = push(tmp_path / "all", "--with_gold")
    assert done.returncode == 0 and "8 of the clips are recordings: they must be yours to share" in done.stdout
    assert len(hub[0].repos["dataset", "me/mine"].files) == 6 + 8 + 4


def test_a_recording_that_got_into_the_folder_is_found(made, push, tmp_path):
    """Beside the clips, in the place of one, and with a table that was changed to suit."""
    gold = read_manifest(made / "train_8.csv")["path"][0]
    shutil.copytree(made / "dataset", folder := tmp_path / "dataset")
    shutil.copy(gold, folder / "audio/more.wav")
    assert "holds audio/more.wav, which is no part" in push(folder).stderr
    (folder / "audio/more.wav").unlink()
    clip = next((folder / "audio").iterdir())
    before = hashlib.sha256(clip.read_bytes()).hexdigest()
    shutil.copy(gold, clip)
    assert "is another file than metadata.jsonl says" in push(folder).stderr
    changed = (folder / "metadata.jsonl").read_text().replace(before, hashlib.sha256(clip.read_bytes()).hexdigest())
    (folder / "metadata.jsonl").write_text(changed)
    assert "metadata.jsonl: is not what croissant.json says" in push(folder).stderr
    said = json.loads((folder / "croissant.json").read_text())
    for part in said["distribution"]:
        part |= (
            {"sha256": hashlib.sha256((folder / part["contentUrl"]).read_bytes()).hexdigest()}
            if "sha256" in part
            else {}
        )
    (folder / "croissant.json").write_text(json.dumps(said))
    assert "does not say in its tags that it is synthetic" in push(folder).stderr


def test_a_repository_that_is_public_is_not_taken_for_a_private_one(made, hub, push):
    assert push(made / "dataset", "--public").returncode == 0
    assert not hub[0].repos["dataset", "me/mine"].private
    refused = push(made / "dataset")
    assert refused.returncode == 2 and "me/mine is there, and public; give --public" in refused.stderr


def test_a_large_file_goes_in_parts_and_its_hash_is_checked(hub, push, tmp_path):
    """An adapter, whose record names the model by a folder of this machine."""
    folder = tmp_path / "w/dpo/adapter"
    folder.mkdir(parents=True)
    weights = {"lora_A": np.random.default_rng(0).normal(size=(300, 100))}
    save_file(weights, folder / "adapter_model.safetensors")
    write_json(folder / "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": str(tmp_path / "t2a")})
    record = {
        "options": {"model": "stabilityai/stable-audio-open-1.0@0123", "loss": "dpo", "beta": 2000.0},
        "pairs": 12,
        "control": {"gold": {"clips": 6, "error_change": -0.01, "error_change_se": 0.002, "codec_accuracy": 0.5}},
    }
    write_json(folder.with_name("adapter.json"), record)
    done = push(folder, repo="lab/adapter")
    assert done.returncode == 0, done.stderr
    assert 'keeps the notice below, and shows "Powered by Stability AI"' in done.stdout
    store = hub[0]
    files = store.repos["model", "lab/adapter"].files
    content = (folder / "adapter_model.safetensors").read_bytes()
    assert len(content) > 2 * PART_BYTES and files["adapter_model.safetensors"] == content
    assert (store.calls["upload"], store.calls["complete"]) == (-(-len(content) // PART_BYTES), 1)
    assert str(tmp_path).encode() not in b"".join(files.values()) and b'"t2a"' in files["adapter_config.json"]
    card = files["README.md"].decode()
    said = yaml.safe_load(card.split("---")[1])
    assert said["library_name"] == "peft" and said["base_model"] == "stabilityai/stable-audio-open-1.0"
    assert said["license_name"] == "stability-ai-community" and "| gold | 6 | -0.01 ± 0.002 |" in card
    assert "Copyright © Stability AI Ltd" in card and "12 pairs of a recording" in card


def test_of_a_classifier_only_the_model_goes(hub, push, tmp_path):
    model = tmp_path / "w/classifier/synthio/model"
    model.mkdir(parents=True)
    (model / "README.md").write_text("---\nlicense: other\n---\n# A card\n")
    (model / "model.safetensors").write_bytes(b"weights")
    write_json(
        model / "config.json", {"embeddings": [{"kind": "ast", "model": str(EMBEDDED / "ast")}], "labels": ["/"]}
    )
    for name in ("scores.json", "predictions.csv"):
        (model.parent / name).write_text("/home/me/secret.wav")
    assert push(model.parent, repo="me/classifier").returncode == 0
    files = hub[0].repos["model", "me/classifier"].files
    assert files.keys() == {"README.md", "model.safetensors", "config.json"}
    said = json.loads(files["config.json"])
    assert said == {"embeddings": [{"kind": "ast", "model": "ast"}], "labels": ["/"]}


@pytest.mark.parametrize(
    ("fault", "status", "message", "words"),
    [
        ("create", 401, "Invalid username or password.", "the hub refuses the token (401); make a new one"),
        ("create", 403, "No rights", "me/mine: this token may not write there (403: No rights); is me you"),
        ("info", 404, "", "me/mine: not there (404)"),
        ("commit", 409, "Conflict", "me/mine: somebody else changes it at this moment (409: Conflict)"),
        ("batch", 403, "Private repository storage limit reached", "me/mine: the hub has no room for it (403: Private"),
        ("upload", 413, "", "me/mine: the hub has no room for it (413)"),
        ("preupload", 400, "bad name", "me/mine: the hub refuses it (400: bad name)"),
        ("commit", 503, "", "the hub has trouble of its own (503)"),
    ],
)
def test_an_objection_of_the_hub_is_one_line(made, hub, push, fault, status, message, words):
    hub[0].faults[fault] = (status, message)
    done = push(made / "dataset")
    assert done.returncode == 2 and done.stderr.strip().splitlines()[-1].startswith(f"error: {words}"), done.stderr
    if status not in (409, 413):
        return
    hub[0].faults.clear()
    again = push(made / "dataset")
    assert again.returncode == 0 and hub[0].repos["dataset", "me/mine"].files == files_of(made / "dataset")


@pytest.mark.slow
def test_a_network_that_goes_in_between_is_told_and_the_same_command_goes_on(made, hub, push):
    """The client tries again for half a minute first."""
    hub[0].faults["commit"] = (0, "")
    done = push(made / "dataset")
    assert done.returncode == 2 and "the hub is not in reach; see to the network" in done.stderr
    uploads = hub[0].calls["upload"]
    hub[0].faults = {"batch": (0, "")}
    assert "the hub is not in reach" in push(made / "dataset").stderr
    hub[0].faults.clear()
    assert push(made / "dataset").returncode == 0 and hub[0].calls["upload"] == uploads == 6


def test_what_is_wrong_before_the_hub_is_asked(made, hub, push, tmp_path):
    assert "no token for the hub; set HF_TOKEN" in push(made / "dataset", HF_TOKEN="").stderr
    assert "give owner/name" in push(made / "dataset", repo="mine").stderr
    assert "neither a dataset" in push(made / "round_0").stderr
    assert "no such folder" in push(tmp_path / "none").stderr
    refused = push(made / "dataset", repo="other/mine")
    assert refused.returncode == 2 and "other/mine: this token may not write there (403" in refused.stderr
    assert "the hub refuses the token (401)" in push(made / "dataset", HF_TOKEN="hf_wrong").stderr
    assert "HF_HUB_OFFLINE is set" in push(made / "dataset", HF_HUB_OFFLINE="1").stderr
    assert "the hub is not in reach" in push(made / "dataset", HF_ENDPOINT="http://127.0.0.1:9").stderr
    assert not hub[0].repos
