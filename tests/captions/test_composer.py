"""The embedded writer: the parts of a caption, and prompts from a grammar."""

from __future__ import annotations

import pytest

from synthio.captions.composer import KIND_OF, UNSAID, Composer, compose, extract
from synthio.captions.pools import prompt_problem, words_of
from synthio.captions.requests import CaptionRequest, Extraction


@pytest.mark.parametrize(
    ("caption", "events", "backgrounds"),
    [
        ("several loud, high-pitched sounds, with a low hum in the background",
         ("loud", "high-pitched"), ("a low hum",)),
        ("a single slow sound", (), ()),
        ("A dog barks while a man speaks in a small room", ("a man speaks in a small room",), ()),
        ("Rain falling on a roof, with thunder in the background", ("rain falling on a roof",), ("thunder",)),
        ("a dog barking and birds chirping in the background", (), ("birds chirping",)),
        ("dog bark, loud, in a small room, with rain in the background", ("loud",), ("rain",)),
        ("", (), ()),
    ],
)  # fmt: skip
def test_events_and_backgrounds_of_a_caption(caption, events, backgrounds):
    assert extract("dog bark", caption) == Extraction(events, backgrounds)


def request(**changes) -> CaptionRequest:
    pool = Extraction(("loud", "quiet", "high-pitched", "a man speaks"), ("a low hum", "white noise"))
    return CaptionRequest(**({"label": "dog bark", "count": 5, "seed": 0, "pool": pool} | changes))


def test_prompts_keep_the_label_and_are_short_and_different():
    for seed in range(40):
        prompts = compose(request(seed=seed, domain="urban street recordings"))
        assert len(set(prompts)) == 5
        assert [prompt_problem(prompt, "dog bark") for prompt in prompts] == [""] * 5


def test_prompts_use_the_pool_and_never_contradict_themselves():
    prompts = [prompt for seed in range(60) for prompt in compose(request(seed=seed))]
    text = " ".join(prompts)
    assert all(word in text for word in ("loud", "a man speaks", "a low hum", "white noise"))
    assert not any({"loud", "quiet"} <= set(words_of(prompt)) for prompt in prompts)
    assert not any(f" {word} {word}" in prompt for word in KIND_OF for prompt in prompts)


def test_how_often_a_sound_comes_is_not_carried_over():
    captions = [f"{word} loud sounds, with a low hum in the background" for word in UNSAID]
    for seed, caption in enumerate(captions * 10):
        prompts = compose(request(seed=seed, pool=Extraction(), caption=caption))
        assert not set(UNSAID) & {word for prompt in prompts for word in words_of(prompt)}


def test_a_seed_decides_the_prompts():
    assert compose(request(seed=3)) == compose(request(seed=3)) != compose(request(seed=4))


def test_a_hundred_prompts_without_a_pool_are_different():
    assert len(set(compose(request(count=100, pool=Extraction())))) == 100


def test_prompts_of_a_label_are_not_repeated_between_clips():
    prompts = Composer().write([request(seed=seed % 3, count=3) for seed in range(30)])
    flat = [prompt for one in prompts for prompt in one]
    assert len(set(flat)) == len(flat)


def test_a_rewrite_takes_what_was_kept_and_says_less():
    kept = ("dog bark, loud", "Sound of a dog bark, with wind in the background")
    bad = "several quiet, distant sounds of a dog bark, with rain in the background"
    prompts = [compose(request(count=1, seed=s, rejected=bad, accepted=kept))[0] for s in range(60)]
    assert bad not in prompts
    assert not any("rain" in prompt for prompt in prompts)
    assert any("loud" in prompt for prompt in prompts) and any("wind" in prompt for prompt in prompts)
    telling = [len(set(words_of(prompt)) & set(KIND_OF)) for prompt in prompts]
    assert max(telling) <= 2


def test_a_caption_of_the_clip_itself_is_used():
    prompts = [
        prompt for s in range(20) for prompt in compose(request(seed=s, pool=Extraction(), caption="a muffled sound"))
    ]
    assert any("muffled" in prompt for prompt in prompts)


MANY = " and ".join(["acoustic guitar", "plucked string instrument", "musical instrument", "human group actions"] * 4)


def test_the_grammar_finds_many_prompts_for_a_long_label():
    prompts = compose(request(label=MANY, count=60))
    assert len(set(prompts)) == 60 and {prompt_problem(prompt, MANY) for prompt in prompts} == {""}


def test_a_language_models_reply_for_a_long_label_is_taken():
    from synthio.captions.chat_writer import prompts_problem

    asked = request(label=MANY, count=1)
    assert prompts_problem([f"a {MANY} heard from afar in a large hall"], asked, set()) == ""


@pytest.mark.parametrize(
    ("why", "unwanted"),
    [("clipped", {"loud", "close"}), ("silent", {"quiet", "faint", "soft", "distant", "muffled"})],
)
def test_a_rewrite_does_not_ask_again_for_what_spoilt_the_clip(why, unwanted):
    kept = ("dog bark, loud, close", "quiet, distant sound of a dog bark")
    said = {}
    for kind in ("unlike", why):
        requests = [request(count=1, seed=s, rejected="dog bark", accepted=kept, why=kind) for s in range(60)]
        said[kind] = {word for one in requests for prompt in compose(one) for word in words_of(prompt)}
    assert not said[why] & unwanted
    assert said["unlike"] & unwanted


def test_a_rewrite_of_a_copy_says_something_new():
    kept = ("dog bark, loud", "quiet sound of a dog bark, with wind in the background")
    prompts = [compose(request(count=1, seed=s, rejected="dog bark", accepted=kept, why="copy"))[0] for s in range(60)]
    assert all(set(words_of(prompt)) & set(KIND_OF) for prompt in prompts)
