"""Requests, gold rows, and the script at a chat server."""

from __future__ import annotations

from synthio.captions.requests import CaptionRequest
from tests.scripts import ROOT, call_script

KEY = "sk-test-9f8e7d6c5b4a"
SCRIPT = ROOT / "generate_captions_gpt.py"


def requests_of(count=6, prompts=2):
    labels = ["dog bark", "rain", "siren"]
    return [CaptionRequest(labels[k % 3], prompts, seed=1000 + 7 * k, domain="a street") for k in range(count)]


def gold_rows(count=9):
    labels = ["dog_bark", "rain", "siren"]
    heard = [
        "a dog barks, loud footsteps",
        "heavy rain, with thunder",
        "a siren, passing cars",
        "two barks, a distant train",
    ]
    return [
        {"path": f"{k}.wav", "label": labels[k % 3], "caption": f"{heard[k % 4]}, with noise {k} behind"}
        for k in range(count)
    ]


def run(tmp_path, server, *words, name="prompts", gold="gold.csv", ok=True):
    args = ["--input_csv", tmp_path / gold, "--output_csv", tmp_path / f"{name}.csv", "--writer", "openai"]
    done = call_script(SCRIPT, *args, "--llm_model", "m", "--llm_base_url", server.url, *words)
    assert (done.returncode == 0) == ok, done.stderr
    return done


PROMPTS = '{"prompts": ["a", "b"]}'
