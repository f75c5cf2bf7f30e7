"""How cost grows: slopes, and each work once at a tiny size."""

from __future__ import annotations

import pytest

from tests.scripts import ROOT, load_script


@pytest.fixture(scope="module")
def growth():
    return load_script(ROOT / "benchmarks/growth.py")


def test_a_slope_is_the_power_of_the_growth(growth):
    assert growth.slope([1, 10, 100], [5, 3, 300]) == pytest.approx(2)
    assert growth.slope([50, 100], [4, 4]) == 0


def test_a_table_goes_out_in_shards_and_comes_back(growth, tmp_path):
    spent = growth.table_stages(9, tmp_path)
    assert (tmp_path / "joined_9.csv").read_text() == (tmp_path / "9.csv").read_text()
    assert set(spent) == {"split_csvs.py", "merge_csv.py"}
    assert all(one.cpu_s > 0.05 and 20 < one.peak_mb < 300 for one in spent.values())


def test_heads_are_fitted_to_clips_that_differ(growth):
    assert growth.fit_fusion(12) > 0


def test_each_clip_is_worked_on(growth, tmp_path):
    filtering = growth.clip_work(0.2, "cpu")["CLAP filter"]
    assert filtering(2, tmp_path / "two") > 0
    assert len(list((tmp_path / "two").glob("*.wav"))) == 2


def test_the_slowest_scripts_come_first(growth):
    rows = growth.start_rows(["split_csvs.py", "synthio/pipeline/sweep.py"], most=1)
    assert len(rows) == 1 and float(rows[0][1]) > 0
