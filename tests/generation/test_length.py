"""One length of latents for a run: what it is for each wish, and what is refused."""

from __future__ import annotations

import pytest

from synthio.cli import UserError
from synthio.generation.length import longest_of, set_latent_length
from synthio.models.load import load_text_to_audio
from tests.rows import write_rows
from tests.tiny_models import save_stable_audio_3, save_text_to_audio

OWN = 40  # frames of 512 samples at 16 kHz
REACH = 11  # of the small decoder, as `reach_of` has it


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_text_to_audio(folder / "open", "v")
    save_stable_audio_3(folder / "three")
    return folder


@pytest.fixture
def gold(tmp_path):
    """Clips whose lengths stage 0 has noted; the files are not asked."""

    def write(*seconds: float):
        rows = [{"path": f"{i}.wav", "label": "dog", "duration_s": f"{s:.3f}"} for i, s in enumerate(seconds)]
        for row in rows:
            (tmp_path / row["path"]).touch()
        write_rows(tmp_path / "gold.csv", rows)
        return str(tmp_path / "gold.csv")

    return write


@pytest.mark.parametrize(
    ("asked", "clips", "frames"),
    [
        ("auto", (0.3, 0.1), 10 + REACH),  # 0.3 s are 9.4 frames
        ("auto", (0.32, 0.1), 10 + REACH),  # exactly 10
        ("auto", (1.1,), OWN),  # 35 and the reach are more than there are
        ("auto", (5.0,), OWN),
        ("model", (0.3,), OWN),
        (0.3, (0.3,), 10),
        (1.28, (0.3,), OWN),
        (0.641, (0.3,), 21),
    ],
)
def test_frames_by_what_is_asked(folders, gold, asked, clips, frames, capsys):
    model = load_text_to_audio(str(folders / "open"))
    assert model.decoder_reach == REACH
    set_latent_length(model, asked, gold(*clips))
    assert model.latent_shape == (16, frames) and model.samples == frames * 512
    assert model.max_seconds == frames * 512 / 16000 and model.is_shortened == (frames < OWN)
    said = f"latents of {frames * 0.032:.2f} s, of open's 1.28\n"
    assert capsys.readouterr().err.endswith(said) == (frames < OWN)


def test_a_fixed_length_of_all_clips_counts_in_place_of_the_gold_clips(folders, gold):
    model = load_text_to_audio(str(folders / "open"))
    set_latent_length(model, "auto", gold(1.2), fixed_s=0.3)
    assert model.latent_shape[1] == 10 + REACH


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (1.3, "latent_seconds 1.3 is more than open has, which is 1.28"),
        (0.5, r"latent_seconds 0.5 is less than the longest clip, 0.60 s; raise it"),
    ],
)
def test_lengths_that_cannot_be(folders, gold, asked, message):
    model = load_text_to_audio(str(folders / "open"))
    with pytest.raises(UserError, match=message):
        set_latent_length(model, asked, gold(0.6))
    assert model.latent_shape[1] == OWN


@pytest.mark.parametrize("asked", ["auto", "model", 0.5])
def test_a_model_of_variable_length_stays_as_it_is(folders, gold, asked):
    model = load_text_to_audio(str(folders / "three"))
    before = model.latent_shape
    set_latent_length(model, asked, gold(0.3))
    assert model.latent_shape == before and not model.is_shortened


def test_a_decoder_that_hears_all_frames_gets_all_of_them(folders, gold):
    """The embedded one: what it makes with auto is what it made before there was a choice."""
    model = load_text_to_audio(str(folders / "open"))
    model.decoder_reach = None
    set_latent_length(model, "auto", gold(0.3))
    assert model.latent_shape[1] == OWN
    set_latent_length(model, 0.3, gold(0.3))
    assert model.latent_shape[1] == 10


def test_the_longest_clip_is_read_from_files_where_nothing_is_noted(make_wav, make_manifest):
    csv = make_manifest("gold.csv", [(make_wav("a.wav", 0.25), "dog"), (make_wav("b.wav", 0.5), "dog")])
    assert longest_of(str(csv)) == 0.5
    assert longest_of(str(make_manifest("none.csv", [], ("path", "label")))) == 0
