"""The benchmark of domain gaps: its domain, its measures by hand, and its intervals."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from scipy import signal

from synthio.classification.intervals import Units
from synthio.manifest import read_manifest
from tests.scripts import ROOT, load_script

RATE = 16000


@pytest.fixture(scope="module")
def benchmark():
    return load_script(ROOT / "benchmarks/domain_gap.py")


def test_the_telephone_has_a_band_a_room_and_hum(benchmark):
    click = np.zeros(2 * RATE)
    click[RATE // 2] = 0.9
    heard = benchmark.telephone(click, RATE, seed=0)
    silence = benchmark.telephone(np.zeros(2 * RATE), RATE, seed=0)
    frequencies, density = signal.welch(heard - silence, RATE, nperseg=4096)
    levels = 10 * np.log10(np.interp([60, 1000, 2000, 7000], frequencies, density))
    assert min(levels[1:3]) - max(levels[0], levels[3]) > 30
    tail = (heard - silence)[RATE // 2 + 800 :]
    early, late = (np.sqrt(np.mean(tail[start : start + 1600] ** 2)) for start in (0, 1600))
    assert 20 * np.log10(early / late) == pytest.approx(12, abs=3), "60 dB in half a second"
    spectrum = np.abs(np.fft.rfft(silence)) / len(silence) * 2
    assert spectrum[200] == pytest.approx(0.01, rel=0.01) and spectrum[600] == pytest.approx(0.006, rel=0.01)


def test_real_clips_are_heard_once_and_plain_ones_stay(benchmark, tmp_path, make_wav, make_manifest):
    make_wav("train/a.wav", 0.5, seed=0)
    table = read_manifest(make_manifest("a.csv", [("train/a.wav", "x")]))
    assert benchmark.hear_domain(table, "plain", tmp_path / "plain") is table
    heard = benchmark.hear_domain(table, "telephone", tmp_path / "telephone")
    assert list(heard["path"]) == [str(tmp_path / "telephone/train_a.wav")]
    first = soundfile.read(heard["path"][0])[0]
    assert len(first) == 8000 and not np.allclose(first, soundfile.read(table["path"][0])[0], atol=1e-3)
    (tmp_path / "train/a.wav").unlink()
    again = benchmark.hear_domain(table, "telephone", tmp_path / "telephone")
    assert np.array_equal(soundfile.read(again["path"][0])[0], first)


def test_measures_of_an_arm_by_hand(benchmark):
    valid = np.eye(4)
    heard = np.array([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0], [0, 0, 1.0, 0]])
    found = benchmark.measures(heard, np.array([0, 0, 1, 1]), valid, np.array([0, 1, 1, 1]), 4)
    assert found["diversity"] == pytest.approx(0.5)  # 1 within the first class, 0 within the second
    assert found["agreement"] == 0.75
    assert benchmark.measures(valid, np.arange(4) % 2, valid, np.zeros(4), 4)["fad"] == pytest.approx(0, abs=1e-9)


def test_intervals_are_of_student_over_draws(benchmark):
    mean, low, high = benchmark.by_draw([1.0, 2.0, 3.0])
    assert (mean, high - mean, mean - low) == pytest.approx((2.0, 4.3027 / 3**0.5, 4.3027 / 3**0.5), rel=1e-4)
    assert benchmark.by_draw([1.0]) == (1.0, float("-inf"), float("inf"))


def test_arms_are_compared_on_the_same_clips(benchmark):
    right = {"a": {"probe": [1, 1, 1, 0]}, "b": {"probe": [1, 0, 0, 0]}}
    found = benchmark.paired({"right": right}, "a", "b", "probe", Units(np.arange(4), "clips"))
    assert found.difference == 0.5
    arms = ("gold", "unaligned", "matched")
    parts = [{"right": {arm: dict.fromkeys(benchmark.HEADS, [1] * n) for arm in arms}} for n in (3, 5)]
    told = benchmark.gain_rows(parts, [Units(np.arange(n), "clips") for n in (3, 5)])  # test sets of two sizes
    assert told[0][:6] == ["probe_ast", "unaligned", "gold", "2", "100.0", "100.0"]
    assert found.drawn.mean() == pytest.approx(0.5, abs=0.03) and found.drawn.min() >= 0
    results = [
        {"arms": {"gold": dict.fromkeys(benchmark.MEASURES, 1.0), "unaligned": dict.fromkeys(benchmark.MEASURES, 4.0)}}
    ]
    rows = benchmark.measure_rows(results * 2)
    assert [row[:4] for row in rows] == [
        ["gold", "2", "1.0 (1.0 to 1.0)", "0.25 (0.25 to 0.25)"],
        ["unaligned", "2", "4.0 (4.0 to 4.0)", "1.00 (1.00 to 1.00)"],
    ]
