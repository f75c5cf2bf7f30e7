"""Sounds that are known by what was put into them, and captions of them."""

from __future__ import annotations

from pathlib import Path

from tests.scripts import ROOT, call_script

CAPTION, WRITE = ROOT / "gama_csv_inf.py", ROOT / "generate_captions_gpt.py"


def captioned(gold):
    done = call_script(CAPTION, "--input_csv", gold, "--output_csv", gold.with_name("captions.csv"))
    assert done.returncode == 0, done.stderr
    return gold.with_name("captions.csv")


def save_gold(make_wav, make_manifest) -> Path:
    """Six gold clips of three labels, in an order of their own."""
    import soundfile

    rows = []
    for i in range(6):
        path = make_wav(f"clip {i}.wav", seconds=0.5 + 0.2 * i, freq_hz=150 * (i + 1), level=0.1 * (i + 1))
        assert soundfile.info(path).frames > 0
        rows.append((path.name, ["dog_bark", "NA", "Hund, laut"][i % 3]))
    return make_manifest("gold.csv", rows)
