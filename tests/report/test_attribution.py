"""What a part bought: measures against those of quality, verdicts where they are known, and words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from synthio.report import quality_metrics
from synthio.report.attribution import (
    Clips,
    Drawn,
    Reference,
    compare,
    lines,
    row_of,
    share_row,
    sound_distances,
    table,
    typical_sound,
)

N, E = 30, 8


def clips(seed: int = 0, count: int = N, shift: float = 0.0) -> Clips:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, E)) + shift
    hits = (rng.random(count) < 0.5).astype(float)
    return Clips(vectors, np.arange(count) % 3, hits, np.abs(rng.normal(5, 1, count)), np.abs(rng.normal(3, 1, count)))


@pytest.fixture
def reference() -> Reference:
    valid = np.random.default_rng(9).standard_normal((40, E))
    return Reference(valid, quality_metrics.median_distance(valid))


def verdicts(rows) -> dict[str, str]:
    return {row["measure"]: row["told"] for row in rows}


def test_measures_are_those_of_quality(reference):
    own = clips()
    found = Drawn(own, reference).measures(np.arange(N))
    wanted, _ = quality_metrics.kernel_distance(own.vectors, reference.valid, reference.bandwidth)
    assert found["kad"] == pytest.approx(wanted)
    within = [quality_metrics.mean_pairwise_distance(own.vectors[own.classes == one]) for one in range(3)]
    assert found["diversity"] == pytest.approx(np.mean(within))  # classes of ten clips each
    assert found["agreement"] == own.hits.mean()


def test_a_clip_that_is_drawn_twice_is_no_pair_with_itself(reference):
    drawn = Drawn(clips(), reference)
    twice = drawn.measures(np.repeat([0, 3], 5))
    once = drawn.measures(np.array([0, 3]))
    assert twice["diversity"] == pytest.approx(once["diversity"])
    assert twice["kad"] == pytest.approx(once["kad"])


def test_the_same_clips_bought_nothing(reference):
    rows = compare(clips(), clips(), reference, 0, paired=True)
    assert set(verdicts(rows).values()) == {"not to be told"}
    assert all(row["difference"] == 0 and row["interval_95"] == [0, 0] for row in rows)


def test_better_and_worse_are_told_by_the_direction_of_each_measure(reference):
    own = clips(shift=1.0)
    better = replace(own, vectors=own.vectors - 1.0, hits=np.ones(N), background_db=own.background_db - 2)
    better = replace(better, band_db=own.band_db + 2)
    found = verdicts(compare(own, better, reference, 0, paired=True))
    assert found["kad"] == "better" and found["agreement"] == "better" and found["background_db"] == "better"
    assert found["band_db"] == "worse"
    assert verdicts(compare(better, own, reference, 0, paired=True))["kad"] == "worse"


def test_pairs_tell_what_sets_cannot(reference):
    own = clips()
    nearer = replace(own, background_db=own.background_db - 0.2)
    assert verdicts(compare(own, nearer, reference, 0, paired=True))["background_db"] == "better"
    assert verdicts(compare(own, nearer, reference, 0, paired=False))["background_db"] == "not to be told"


def test_what_is_not_known_is_null(reference):
    deaf = replace(clips(), hits=np.full(N, np.nan))
    rows = {row["measure"]: row for row in compare(deaf, deaf, reference, 0, paired=True)}
    assert rows["agreement"]["before"] is None and rows["agreement"]["interval_95"] is None
    few = compare(clips(count=3), clips(1, count=3), reference, 0, paired=True)
    assert all(row["told"] == "not to be told" and row["interval_95"] is None for row in few)


def test_an_interval_is_that_of_the_mean():
    rng = np.random.default_rng(0)
    differences = 0.1 + 0.02 * rng.standard_normal(500)
    row = row_of("agreement", 0.5, 0.6, differences, 1000)
    assert row["interval_95"] == pytest.approx([0.1 - 0.0392, 0.1 + 0.0392], abs=0.006)
    assert row["told"] == "better"


def test_sounds_are_off_by_what_was_added():
    rng = np.random.default_rng(0)
    gold = [0.01 * rng.standard_normal(16000) for _ in range(6)]
    louder = [0.1 * rng.standard_normal(16000) for _ in range(6)]
    found = sound_distances([*gold, *louder, np.zeros(16000)], typical_sound(gold, 16000), 16000)
    assert found[:6].max() < 2
    assert found[6:12, 0] == pytest.approx(20, abs=1.5)
    assert found[6:12, 1].max() < 2, "the level is no part of the spectrum"
    assert np.isnan(found[12]).all()
    assert np.isnan(sound_distances(gold, typical_sound([np.zeros(16000)], 16000), 16000)).all()


def test_words_for_terminal_and_page(reference):
    rows = compare(clips(), clips(1), reference, 0, paired=True)
    round_0 = {"round": 0, "kept": 40, "dropped": 17, "agreement": share_row(np.repeat([1.0, 0.0], 20), 0)}
    record = {"parts": {"alignment": rows}, "rounds": [round_0, {**round_0, "round": 1, "agreement": None}]}
    first, last = lines(record)
    assert (
        first == "alignment: not to be told: KAD to validation clips, distance within a class, label heard, background "
        "off the gold clips', dB, spectrum off the gold clips', dB"
    )
    known = dict(rows[2]) | {
        "before": 0.25,
        "after": 0.5,
        "difference": 0.25,
        "interval_95": [0.1, 0.4],
        "told": "better",
    }
    clear = "filter: label heard 0.25 to 0.50 (+0.25; +0.10 to +0.40) better"
    assert lines({"parts": {"filter": [known]}}) == [clear]
    assert last.startswith("rounds: 0: kept 40 of 57, label heard in 0.50 of them (0.3")
    assert last.endswith("1: kept 40 of 57")
    shown = table(record)
    assert (
        shown["parts"][0].startswith("alignment: losers")
        and len(shown["rows"]) == 5
        and {len(row) for row in shown["rows"]} == {len(shown["header"])}
    )
    assert lines({"parts": {}, "rounds": []}) == []
