"""`--review` on a whole run: a click in a browser changes what trains, and nothing is generated again."""

from __future__ import annotations

import shutil

import pytest

from tests.browser import needs_chromium, opened, saved
from tests.driver.test_run import call, options, save_tones, save_world, stage_answers
from tests.rows import rows_of

AGAIN = {"0 check review", "9 review", "9 merge", "9 dataset"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = save_world(tmp_path_factory.mktemp("a world"))
    save_tones(folder / "data", "more", 3)
    return folder


@pytest.fixture(scope="module")
def finished(world):
    """The folder of a run with its report."""
    done = call(*options("first"), cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    return world / "first"


def labels_of(csv) -> dict[str, str]:
    return {row["sha256"]: row["label"] for row in rows_of(csv)}


def save_review(folder, *rows):
    lines = ["path,label,decision,new_label,sha256"]
    lines += [f'{row["path"]},"{row["label"]}",{decision},"{label}",{row["sha256"]}' for row, decision, label in rows]
    (folder / "review.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "review.csv"


@pytest.mark.slow
@needs_chromium
def test_click_save_rerun_and_see_the_change(world, finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "run")
    shutil.copytree(world / "data", tmp_path / "data")
    work = copy / "tiny set"
    made = rows_of(work / "round_0/rejected.csv") + rows_of(work / "round_1/rejected.csv")
    before = labels_of(work / "train_6_synthetic.csv")
    with opened(work / "report.html", profile=tmp_path / "profile") as page:
        for kind, button in (("kept", "Drop"), ("rejected", "Keep"), ("gold", "Drop")):
            card = page.locator(f"article:has(span.{kind}.kind)").first
            card.get_by_role("button", name=button, exact=True).click()
        gold = page.locator("article:has(span.gold.kind)").nth(3)
        other = gold.locator(".new-label option").nth(1).get_attribute("value")
        gold.locator(".new-label").select_option(other)
        review = saved(page, tmp_path)
    decided = {row["decision"]: row for row in rows_of(review)}
    done = call(*options(copy, review=review), cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    answers = stage_answers(done.stdout)
    assert {name for name, answer in answers.items() if "running" in answer and not name.startswith("10 ")} == AGAIN
    assert "up to date" in answers["6 generate"] and "up to date" in answers["8 generate 1"]
    after = labels_of(work / "train_6_synthetic.csv")
    kept = next(row for row in rows_of(review) if row["decision"] == "keep")
    assert kept["sha256"] in {row["sha256"] for row in made} and after[kept["sha256"]] == kept["label"]
    dropped = {row["sha256"] for row in rows_of(review) if row["decision"] == "drop"}
    assert len(dropped) == 2 and dropped <= before.keys() and not dropped & after.keys()
    assert after[decided["relabel"]["sha256"]] == other
    assert len(after) == len(before) - 1
    with opened(work / "report.html", profile=tmp_path / "other profile") as page:
        assert page.inner_text("#review-status") == "4 decided"  # what the run was told
    again = call(*options(copy, review=review), cwd=world)
    assert all("up to date" in answer for answer in stage_answers(again.stdout).values()), again.stdout
    back = call(*options(copy, stop_stage=9), cwd=world)
    assert back.returncode == 0 and labels_of(work / "train_6_synthetic.csv") == before


def test_a_review_is_planned_and_refused_in_stage_0(world, tmp_path):
    """Without a run there is nothing to review; --check and stage 0 say so, before anything runs."""
    row = {"path": "x.wav", "label": "001", "sha256": "0"}
    review = save_review(tmp_path, (row, "drop", ""))
    plan = call(*options(tmp_path / "r", review=review), "--dry_run", cwd=world)
    assert plan.returncode == 0 and "stage 0 check review: " in plan.stdout and "stage 9 review: " in plan.stdout
    check = call(*options(tmp_path / "r", review=review), "--check", cwd=world)
    assert check.returncode == 2 and "nothing was run in" in check.stdout
    done = call(*options(tmp_path / "r", review=review), cwd=world)
    assert done.returncode == 2 or done.returncode == 1
    assert (
        "r/tiny set" not in done.stdout or "x.wav is no clip of this run; remove the row" in done.stdout + done.stderr
    )
    missing = call(*options(tmp_path / "r", review=tmp_path / "no.csv"), "--check", cwd=world)
    assert missing.returncode == 2 and "--review: no such CSV file" in missing.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"clap_filter": "false"},
        {"balance": "true", "other_class": "true"},
        {"only_synthetic": "true"},
        {"augment": "false"},
        {"add_csv": "data/more.csv"},
    ],
    ids=lambda changes: " ".join(changes),
)
def test_other_ways_to_run(world, finished, tmp_path, changes):
    """The first synthetic clip and a gold one are dropped, whatever stands between them and the training CSV."""
    copy = shutil.copytree(finished, tmp_path / "run")
    work = copy / "tiny set"
    done = call(*options(copy, **changes, stop_stage=9), cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    part, stem = ("added/", "train_6_added") if "add_csv" in changes else ("", "train_6")
    made, gold = rows_of(work / f"{part}round_0/generated.csv")[0], rows_of(work / f"{stem}.csv")[-1]
    review = save_review(tmp_path, (made, "drop", ""), (gold, "drop", ""))
    done = call(*options(copy, **changes, stop_stage=9, review=review), cwd=world)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {name for name, said in stage_answers(done.stdout).items() if "running" in said} <= AGAIN | {"9 other"}
    assert gold["sha256"] not in labels_of(work / f"{stem}_reviewed.csv")
    assert len(rows_of(work / f"{stem}_reviewed.csv")) == len(rows_of(work / f"{stem}.csv")) - 1
    if changes.get("augment") != "false":
        after = labels_of(work / f"{stem}_synthetic.csv")
        assert made["sha256"] not in after and gold["sha256"] not in after
