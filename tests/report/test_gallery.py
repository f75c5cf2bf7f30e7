"""Clips on a page: which are shown, and how they are reviewed in a real browser, by mouse, key and finger."""

from __future__ import annotations

from collections import Counter

import jinja2
import numpy as np
import pandas as pd
import pytest

from synthio.audio import content_hash, write_wav
from synthio.data.review import COLUMNS
from synthio.report.gallery import cards_of, doubtful_clips, draw_clips, told
from tests.browser import PHONE, WIDE, needs_chromium, opened, saved
from tests.report.test_page import LABELS, make_report, save_run
from tests.rows import rows_of
from tests.running import wait_until
from tests.scripts import ROOT

# ---- which clips


def test_the_draw_is_even_over_kinds_and_labels():
    rows = [("gold", "a")] * 9 + [("gold", "b")] * 2 + [("kept", "a")] * 9 + [("kept", "b")] * 9 + [("rejected", "b")]
    clips = pd.DataFrame(rows, columns=["kind", "label"]).assign(path=[f"/x/{i}.wav" for i in range(len(rows))])
    drawn = draw_clips(clips, 9)
    assert Counter(zip(drawn["kind"], drawn["label"], strict=True)) == {
        ("gold", "a"): 2,
        ("gold", "b"): 2,
        ("kept", "a"): 2,
        ("kept", "b"): 2,
        ("rejected", "b"): 1,
    }
    assert list(draw_clips(clips.sample(frac=1, random_state=1), 9)["path"]) == list(drawn["path"])


def test_what_was_decided_is_always_shown():
    clips = pd.DataFrame({"kind": "gold", "label": "a", "path": [f"/{i}.wav" for i in range(40)]})
    clips["sha256"] = [f"h{i}" for i in range(40)]
    for row in (3, 17, 39):
        assert f"/{row}.wav" in set(draw_clips(clips, 1, {(f"h{row}", "a")})["path"])
    assert "/3.wav" not in set(draw_clips(clips, 1, {("h3", "b"), ("h17", "a")})["path"])  # another label


def test_doubtful_clips_are_those_with_another_sound_half_of_them_gold():
    rows = [("gold", f"g{i}", 0.1 * i, "b" if i < 6 else "a") for i in range(8)]
    rows += [("kept", f"k{i}", 0.01 * i, "b" if i < 6 else "a") for i in range(8)] + [("rejected", "r", 0, "b")]
    clips = pd.DataFrame({"kind": [row[0] for row in rows], "label": "a", "path": [row[1] for row in rows]})
    cells = {"label_probability": [str(row[2]) for row in rows], "heard_as": [row[3] for row in rows]}
    doubts = clips[["path", "label"]].assign(**cells, heard_probability="0.8")
    doubts.loc[0, "label_probability"] = ""  # not known
    assert list(doubtful_clips(clips, doubts, 5)["path"]) == ["k0", "k1", "k2", "g1", "g2"]
    shown = doubtful_clips(clips, doubts, 20)
    assert len(shown) == 11 and shown.loc[1, "doubt"] == "heard as b (0.80), a has 0.10"
    assert len(doubtful_clips(clips[clips["kind"] == "gold"], doubts, 4)) == 4
    assert doubtful_clips(clips, doubts, 0).empty and doubtful_clips(clips, pd.DataFrame(), 5).empty


# ---- in a browser


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A run whose names try to run scripts, and its report."""
    work = save_run(tmp_path_factory.mktemp("gallery") / "a run", "")
    make_report(work, "--map", "false")
    return work


def card_at(page, place: int):
    return page.locator("article[data-clip]").nth(place)


def synthetic(page):
    """The cards of synthetic clips."""
    return page.locator('article[data-clip]:has(button[data-decision="keep"])')


@needs_chromium
def test_clicks_become_a_csv_and_outlive_the_page(work, tmp_path):
    html, profile = work / "report.html", tmp_path / "profile"
    with opened(html, profile=profile) as page:
        assert page.is_disabled("#review-save") and page.inner_text("#review-status") == "0 decided"
        cards = synthetic(page)
        cards.nth(0).get_by_role("button", name="Keep").click()
        cards.nth(1).get_by_role("button", name="Drop").click()
        cards.nth(2).get_by_role("combobox").select_option(LABELS[0])
        cards.nth(3).get_by_role("button", name="Drop").click()
        cards.nth(3).get_by_role("button", name="Drop").click()  # taken back
        page.locator(".gold").locator("xpath=ancestor::article").first.get_by_role("button", name="Drop").click()
        assert page.inner_text("#review-status") == "4 decided"
        first = rows_of(saved(page, tmp_path))
        assert "saved as review.csv" in page.inner_text("#review-status")
    with opened(html, profile=profile) as page:  # another start of the browser
        assert page.inner_text("#review-status") == "4 decided"
        pressed = synthetic(page).nth(0).get_by_role("button", name="Keep")
        assert pressed.get_attribute("aria-pressed") == "true"
        assert sorted(rows_of(saved(page, tmp_path)), key=str) == sorted(first, key=str)
    assert [row["decision"] for row in first] == ["keep", "drop", "relabel", "drop"]
    assert [row["new_label"] for row in first] == ["", "", LABELS[0], ""] and list(first[0]) == list(COLUMNS)
    clips = {
        (row["sha256"], row["label"])
        for csv in ("train_8.csv", "round_0/generated.csv", "round_1/generated.csv")
        for row in rows_of(work / csv)
    }
    assert {(row["sha256"], row["label"]) for row in first} <= clips
    assert all(str(work.parent) not in row["path"] and row["path"].endswith(".wav") for row in first)


@needs_chromium
def test_by_keyboard(work, tmp_path):
    with opened(work / "report.html", profile=tmp_path / "profile") as page:
        press = page.keyboard.press
        press("n")  # to the first card
        assert card_at(page, 0).evaluate("card => card === document.activeElement")
        cards = page.locator("article[data-clip]")
        places = cards.evaluate_all("found => found.map(card => !!card.querySelector('[data-decision=keep]'))")
        made = places.index(True)
        for _ in range(made):
            press("n")
        press("k")  # and on to the next
        press("d")
        press("p")
        press("p")
        assert card_at(page, made).evaluate("card => card === document.activeElement")
        press("r")
        assert page.evaluate("document.activeElement.tagName") == "SELECT"
        press("k")  # letters belong to the list while it has the focus
        assert page.inner_text("#review-status") == "2 decided"
        card_at(page, made).focus()
        press("l")
        player = card_at(page, made).locator("audio")
        wait_until(lambda: player.evaluate("audio => audio.currentTime > 0.05"), "a sound", 20)
        assert player.evaluate("audio => audio.duration") == pytest.approx(0.5, abs=0.05)
        gold = places.index(False)
        card_at(page, gold).focus()
        press("k")  # gold clips are kept anyhow
        assert page.inner_text("#review-status") == "2 decided"
        answers = [row["decision"] for row in rows_of(saved(page, tmp_path))]
        assert answers == ["keep", "drop"]


@needs_chromium
def test_controls_have_names_and_are_reached_by_tab(work, tmp_path):
    with opened(work / "report.html", profile=tmp_path / "profile") as page:
        group = synthetic(page).first.get_by_role("group")
        assert group.get_attribute("aria-label").startswith("Decision on ")
        assert group.get_by_role("combobox", name="Relabel").count() == 1
        group.get_by_role("button").first.focus()
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('[role=group]') !== null")
        region = page.get_by_role("region", name="Your decisions")
        assert region.get_by_role("button", name="Save review.csv").count() == 1
        assert page.locator("#review-status").get_attribute("role") == "status"


@needs_chromium
@pytest.mark.parametrize("size", [WIDE, PHONE])
def test_it_fits_its_window(work, tmp_path, size):
    with opened(work / "report.html", size, tmp_path / "profile") as page:
        page.locator("#clips").scroll_into_view_if_needed()
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        button = card_at(page, 0).get_by_role("button").first.bounding_box()
        assert button["height"] >= (44 if size == PHONE else 30)  # of a finger
        assert page.locator("#review-save").is_visible()


@needs_chromium
def test_a_browser_that_stores_nothing_says_so(work, tmp_path):
    with opened(work / "report.html", profile=tmp_path / "profile") as page:
        page.add_init_script("Object.defineProperty(window, 'localStorage', {get() { throw new Error('no'); }})")
        page.reload()
        card_at(page, 0).get_by_role("button", name="Drop").click()
        assert "this browser keeps nothing, so save before you close the page" in page.inner_text("#review-status")
        assert len(rows_of(saved(page, tmp_path))) == 1


@needs_chromium
def test_what_is_stored_of_other_clips_is_not_saved(work, tmp_path):
    with opened(work / "report.html", profile=tmp_path / "profile") as page:
        page.evaluate(
            """() => {
                const store = JSON.parse(document.getElementById("review").dataset.page).store;
                localStorage.setItem(store, JSON.stringify({"other\\ndog": {decision: "drop", new_label: ""}, x: 7}));
            }"""
        )
        page.reload()
        assert page.inner_text("#review-status") == "0 decided"


def save_page(folder, multi_label: bool, earlier=()):
    """A page of two clips of labels with commas and quotes."""
    labels, rows = ['a "b", c', "d"], []
    for number, label in enumerate(labels):
        audio = np.random.default_rng(number).uniform(-0.2, 0.2, (1, 8000)).astype(np.float32)
        write_wav(folder / f"{number}.wav", audio, 16000)
        rows.append({"path": str(folder / f"{number}.wav"), "label": label, "sha256": content_hash(audio, 16000)})
    clips = pd.DataFrame(rows).assign(kind="kept", round="")
    cards, _ = cards_of(clips, folder / "w", 5.0, 10**7)
    template = (
        '{% from "clips.html.j2" import cards_of, review_bar with context %}<!doctype html><meta charset="utf-8">'
        "<title>x</title>{{ cards_of(cards, review.multi_label) }}{{ review_bar(review) }}"
    )
    files = jinja2.FileSystemLoader(ROOT / "synthio/report")
    loader = jinja2.ChoiceLoader([jinja2.DictLoader({"x.j2": template}), files])
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    review = told("x", "review.csv", COLUMNS, labels, multi_label, earlier)
    html = environment.get_template("x.j2").render(cards=cards, review=review)
    (folder / "page.html").write_text(html, encoding="utf-8")
    return folder / "page.html", rows


@needs_chromium
def test_several_labels_are_typed(tmp_path):
    html, rows = save_page(tmp_path, multi_label=True)
    with opened(html) as page:
        field = card_at(page, 1).get_by_role("combobox")
        field.fill("d; nothing")
        field.blur()
        assert 'No label "d; nothing"' in page.inner_text("#review-status")
        assert page.is_disabled("#review-save")
        field.fill('d; a "b", c')
        field.blur()
        (row,) = rows_of(saved(page, tmp_path))
    assert row["new_label"] == 'd;a "b", c' and row["sha256"] == rows[1]["sha256"]


@needs_chromium
def test_earlier_decisions_stay_until_they_are_taken_back(tmp_path):
    """Of clips that are on the page, and of others, which a review must not lose."""
    html, rows = save_page(tmp_path, multi_label=False)
    earlier = [
        {**{name: rows[0][name] for name in ("path", "label", "sha256")}, "decision": "drop", "new_label": ""},
        {"path": "z.wav", "label": "d", "sha256": "z", "decision": "relabel", "new_label": 'a "b", c'},
    ]
    html, _ = save_page(tmp_path, multi_label=False, earlier=earlier)
    with opened(html) as page:
        assert page.inner_text("#review-status") == "2 decided"
        found = rows_of(saved(page, tmp_path))
        assert [row["decision"] for row in found] == ["drop", "relabel"] and found[1]["label"] == "d"
        assert found[0]["label"] == 'a "b", c' == found[1]["new_label"]
        card_at(page, 0).get_by_role("button", name="Drop").click()
        page.reload()
        assert [row["path"] for row in rows_of(saved(page, tmp_path))] == ["z.wav"]
        page.on("dialog", lambda dialog: dialog.accept())
        page.click("#review-clear")
        page.reload()
        assert page.inner_text("#review-status") == "0 decided"
