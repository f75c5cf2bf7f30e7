"""The report, on a small run folder that the stages' own functions wrote; its labels and names try to run scripts."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import soundfile

from synthio.audio import content_hash, write_wav
from synthio.classification import script as evaluation
from synthio.classification.heads import TITLES
from synthio.classification.options import Scoring
from synthio.files import fingerprint, write_json
from synthio.manifest import read_manifest, versions, write_manifest, write_table
from synthio.report import gallery
from synthio.report import page as report
from tests.scripts import ROOT, call_script
from tests.tiny_models import save_clap

RATE = 16000
RAN = "document.title='ran'"
LABELS = ["dog_bark", f"<script>{RAN}</script>", f'"><img src=x onerror="{RAN}">', "$\\frac{犬}$ \x07 --> ]]>"]
CAPTIONS = [
    f"</bdi><svg onload={RAN}>",
    "{{ 7 * 191 }} {% raise %}",
    f"</title></style><script>{RAN}</script>",
    f"a dog' onclick='{RAN}",
]


WORK_NAME = f"<img src=x onerror={RAN}>"
CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome", "chrome"])), "")


def save_clip(path: Path, seed: int) -> dict[str, str]:
    """A noisy tone of half a second, and the columns that say what it is."""
    rng = np.random.default_rng(seed)
    tone = 0.2 * np.sin(2 * np.pi * (300 + 200 * (seed % 9)) * np.arange(RATE // 2) / RATE)
    audio = (tone + 0.02 * rng.normal(size=len(tone)))[None].astype(np.float32)
    write_wav(path, audio, RATE)
    return {"path": str(path), "sha256": content_hash(audio, RATE), "duration_s": "0.500"}


def save_gold(work: Path) -> pd.DataFrame:
    """train_8.csv and captions.csv: two clips a label."""
    rows = [
        {**save_clip(work / f'gold/{i} "><svg onload={RAN}>.wav', i), "label": LABELS[i % 4]} for i in range(8)
    ]  # a file name, but for the slash, holds whatever it likes
    gold = pd.DataFrame(rows)
    write_manifest(gold, work / "train_8.csv", rows_in=8, options={"num_samples": 8, "seed": 0})
    captions = gold.assign(caption=[CAPTIONS[i % 4] for i in range(8)])
    write_manifest(captions, work / "captions.csv", rows_in=8, inputs=[work / "train_8.csv"])
    return gold


def save_adapter(work: Path, suffix: str = "") -> str:
    """dpo/adapter with its history; returns the name that generated clips get from it."""
    folder = work / f"dpo/adapter{suffix}"
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"weights" + suffix.encode())
    history = [
        {"step": i, "loss": 0.69 - i / 100, "accuracy": 0.5, "margin": i / 10, "seconds": 0.1} for i in range(12)
    ]
    write_table(pd.DataFrame(history), work / f"dpo/adapter{suffix}_history.csv")
    write_json(work / f"dpo/adapter{suffix}.json", {"options": {"beta": 2000.0}, "versions": versions()})
    return f"t2a@0123456789ab+adapter@{fingerprint(folder)[:12]}"


def save_round(work: Path, number: int, gold: pd.DataFrame, model: str, clap: str, filtered: bool = True) -> Path:
    """A round of one clip for each gold clip, every fourth of them rejected; returns what goes on."""
    folder = work / f"round_{number}"
    rows = []
    for i, record in enumerate(gold.to_dict("records")):
        clip = save_clip(work.parent / f"{work.name}_synthetic/round_{number}/{i}.wav", 10 * number + i + 20)
        more = {"source_path": record["path"], "prompt": f"{CAPTIONS[i % 4]} {i}", "seed": str(i), "model": model}
        rows.append({"label": record["label"], **clip, **more})
    table = pd.DataFrame(rows)
    pools = {label: {"events": [CAPTIONS[0]], "backgrounds": []} for label in LABELS}
    source = [work / "captions.csv"] if number == 0 else []
    write_manifest(table, folder / "prompts.csv", rows_in=8, inputs=source, notes={"pools": {} if number else pools})
    write_manifest(table, folder / "generated.csv", rows_in=8, inputs=[folder / "prompts.csv"])
    if not filtered:
        return folder / "generated.csv"
    is_kept = [i % 4 < 3 for i in range(8)]
    reasons = ["" if keep else "clap_probability 0.8 is below 0.85" for keep in is_kept]
    scored = table.assign(
        clap_score=["0.2" if keep else "0.1" for keep in is_kept], clap_probability="0.9", reason=reasons
    )
    kept, rejected = scored[is_kept], scored[[not keep for keep in is_kept]]
    write_table(rejected, folder / "rejected.csv")
    notes = {"logit_scale": 11.0, "threshold_as_cosine": 0.15}
    write_manifest(kept, folder / "kept.csv", rows_in=8, dropped=rejected, options={"model": clap}, notes=notes)
    return folder / "kept.csv"


def save_classifier(folder: Path, train_csv: Path, wrong: set[int], multi_label=False, head="ast") -> None:
    """What ast/train.py leaves, or a head of ast/heads.py, with chosen mistakes among the 16 test clips."""
    folder.mkdir(parents=True)
    truth = np.eye(4, dtype=np.float32)[np.arange(16) % 4]
    test = pd.DataFrame({"path": [f"/data/{i}.wav" for i in range(16)], "label": np.tile(LABELS, 4)})
    tables = {"train": read_manifest(train_csv, check_files=False), "valid": test[:8], "test": test}
    targets = {"valid": truth[:8], "test": truth}
    sure, unsure = (np.where(truth > 0, right, (1 - right) / 3) for right in (0.7, 0.4))
    for chances in (sure, unsure):
        chances[sorted(wrong)] = np.roll(chances[sorted(wrong)], 1, axis=1)
    result = evaluation.Result(sure[:8], sure, unsure, 0.5)
    details = {"head": head, "best_valid": (0.6, 0.7), "options": {"train_csv": str(train_csv)}}
    if head == "ast":
        details |= {"best_step": 10, "num_steps": 10}
        history = {"step": [5, 10], "train_loss": [1.0, 0.5], "valid_loss": [1.1, 0.7], "valid_accuracy": [0.4, 0.6]}
        write_table(pd.DataFrame(history | {"alpha": [1.0, 0.5]}), folder / "history.csv")
    evaluation.write_test_results(folder, Scoring(multi_label=multi_label), tables, LABELS, targets, result, details)


def save_results(work: Path, names: dict[str, str], *more) -> None:
    """W/scores.json as the driver has it written: name -> folder of each method, which may have _ast and _heads."""
    (work / "timings.csv").write_text("stage,seconds\n0 check,1.5\n10 classify gold only,30.5\n")
    scores = [f"{name}={work / 'classifier' / folder / 'scores.json'}" for name, folder in names.items()]
    words = ["--output_json", work / "scores.json", "--timings", work / "timings.csv", "--scores", *scores]
    known = [(name, work / f"classifier/{folder}{end}") for name, folder in names.items() for end in ("_heads", "_ast")]
    trained = [f"{name}={folder}" for name, folder in known if folder.is_dir()]
    words += ["--trained", *trained] if trained else []
    done = call_script(ROOT / "synthio/report/results.py", *words, *more)
    assert done.returncode == 0, done.stderr


def save_run(work: Path, clap: str, rounds: int = 2, dpo: bool = True, filtered: bool = True, **options) -> Path:
    """A whole run folder."""
    gold = save_gold(work)
    model = save_adapter(work) if dpo else "t2a@0123456789ab"
    parts = [work / "train_8.csv"]
    parts += [save_round(work, number, gold, model, clap, filtered) for number in range(rounds)]
    save_classifier(work / "classifier/gold_only", parts[0], {0, 1, 2, 3, 5}, **options)
    names = {"gold-only": "gold_only"}
    if rounds:
        merged = work / "train_8_synthetic.csv"
        done = call_script(ROOT / "merge_csv.py", "--input_csvs", *parts, "--output_csv", merged)
        assert done.returncode == 0, done.stderr
        save_classifier(work / "classifier/synthio", merged, {2}, **options)
        names["synthio"] = "synthio"
    save_results(work, names)
    return work


def make_report(work: Path, *options) -> tuple[str, str]:
    """(the HTML, what was printed)."""
    done = call_script(ROOT / "synthio/report/page.py", "--work", work, *options)
    assert done.returncode == 0, done.stderr
    return (work / "report.html").read_text(encoding="utf-8"), done.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(folder, HTML, what was printed) of a run with everything in it, the map too."""
    folder = tmp_path_factory.mktemp("report")
    work = save_run(folder / WORK_NAME, str(save_clap(folder / "clap")))
    return work, *make_report(work)


class Page(HTMLParser):
    """What a browser's parser would see: elements with their attributes, and text."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def sections(self) -> list[str]:
        return [attributes["id"] for attributes in self.all("section")]


def content_of(uri: str) -> bytes:
    return base64.b64decode(uri.partition(";base64,")[2], validate=True)


# ---- what is in it


def test_every_section_is_there(finished):
    page = Page(finished[1])
    wanted = ["scores", "calibration", "confusions", "gains", "clips"]
    wanted += ["filter", "captions", "dpo", "training", "map", "run"]
    assert page.sections == wanted
    assert {link["href"] for link in page.all("a")} == {f"#{name}" for name in wanted}
    assert "93.8 (" in page.text and "+25.0 (" in page.text  # 15 and 11 of 16 test clips
    assert "32.0" in page.text  # the sum of the seconds
    assert versions()["torch"] in page.text and "beta" in page.text and "2000.0" in page.text
    assert "clap_probability … is below …" in page.text
    counts = Counter(uri["src"].split(";")[0] for uri in page.all("img"))
    # scores, 2 calibrations, 2 confusions, gains, distribution, 3 of preference training, 3 of the classifiers, 2 maps
    assert counts == {"data:image/svg+xml": 15, "data:image/png": 24}


def test_every_clip_can_be_played(finished):
    _, html, printed = finished
    players = Page(html).all("audio")
    assert len(players) == 24 and "24 of 24 clips" in printed
    for player in players:
        audio, rate = soundfile.read(io.BytesIO(content_of(player["src"])))
        assert rate == RATE and len(audio) == RATE // 2 and 0.1 < np.abs(audio).max() < 0.4
    kinds = Counter(player["aria-label"].split(" clip of ")[0] for player in players)
    assert kinds == {"gold": 8, "kept": 12, "rejected": 4}


def test_the_figures_are_whole_and_describe_themselves(finished):
    pictures = Page(finished[1]).all("img")
    assert all(picture["alt"] for picture in pictures)
    drawn = [content_of(p["src"]).decode() for p in pictures if p["src"].startswith("data:image/svg+xml")]
    for text in drawn:
        ElementTree.fromstring(text)
        assert "<script" not in text
    assert any("frac{犬}" in text for text in drawn)  # as text, not as mathematics
    assert any("15 of 16 test clips" in picture["alt"] for picture in pictures)


def test_gold_clips_are_scored_by_the_map(finished):
    html = finished[1]
    cards = html.split('<article class="card"')[1:]
    gold = [card for card in cards if 'class="kind gold"' in card]
    assert len(gold) == 8
    assert all(re.search(r"CLAP score -?0\.\d{3}, sigmoid 0\.\d{3}<", card) for card in gold)


def test_a_page_that_is_made_again_loads_no_model(finished, tmp_path, monkeypatch):
    """The vectors are kept by content; the gold clips have the same scores."""
    work = shutil.copytree(finished[0], tmp_path / WORK_NAME)
    monkeypatch.setattr("synthio.models.load.load_scorer", lambda *_: pytest.fail("the model was loaded"))
    html, _ = make_report(work)
    assert Page(html).sections == Page(finished[1]).sections
    scores = [re.findall(r"CLAP score (-?0\.\d{3})", text) for text in (html, finished[1])]
    assert scores[0] == scores[1] and len(scores[0]) > 8


def test_the_map_says_which_clips_it_lacks(finished, tmp_path):
    """One that was damaged since may be among those that the gallery does not show."""
    work = save_run(tmp_path / "w", str(save_clap(tmp_path / "clap")), rounds=1, dpo=False)
    next((work / "gold").glob("*.wav")).write_bytes(b"RIFF")
    assert "It lacks 1 of 16 clips, which cannot be read." in Page(make_report(work)[0]).text
    assert "which cannot be read" not in finished[1]


def test_it_needs_nothing_from_outside(finished):
    page = Page(finished[1])
    links = [value for _, attributes in page.elements for name, value in attributes.items() if name in ("src", "href")]
    assert len(links) > 40 and all(link.startswith(("data:", "#")) for link in links)
    assert "@import" not in finished[1] and "url(" not in finished[1]


# ---- what must not happen


def test_whatever_the_names_hold_is_text(finished):
    page = Page(finished[1])
    assert not {"svg", "iframe", "object", "embed", "base", "link", "form"} & {t for t, _ in page.elements}
    assert page.all("script") == [{}]  # the page's own
    assert [n for _, attributes in page.elements for n in attributes if n.startswith("on")] == []
    for text in [*LABELS[:3], *CAPTIONS, WORK_NAME]:
        assert text in page.text
    policy = page.all("meta")[1]["content"]
    own = finished[1].split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ") and f"script-src 'sha256-{digest}';" in policy


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium found (apt-get install chromium)")
@pytest.mark.parametrize("has_policy", [True, False])
def test_no_other_script_runs_in_a_browser(finished, tmp_path, has_policy):
    """Without its policy too, so that escaping is tested by itself."""
    html = finished[1]
    if not has_policy:
        html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html, count=1)
    dump = load_in_browser(tmp_path, html)
    assert "Synthio report: &lt;img src=x" in dump  # it was loaded
    assert "<title>ran</title>" not in dump
    if not has_policy:  # the same payload, unescaped, does run: this test can fail
        control = load_in_browser(tmp_path, html.replace("</main>", f"<script>{RAN}</script></main>"))
        assert "<title>ran</title>" in control


def load_in_browser(folder: Path, html: str) -> str:
    """The page's DOM after it was loaded."""
    (folder / "page.html").write_text(html, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command = [CHROMIUM, *flags, "--virtual-time-budget=3000", "--dump-dom", str(folder / "page.html")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- what is missing


def test_gold_only(tmp_path):
    html, _ = make_report(save_run(tmp_path / "w", "", rounds=0, dpo=False))
    page = Page(html)
    assert page.sections == ["scores", "calibration", "confusions", "clips", "training", "run"]
    assert len(page.all("audio")) == 8


def test_what_the_label_other_is_worth(tmp_path):
    work = save_run(tmp_path / "run", "", rounds=0)
    rates = {
        name: {"false_alarms": rate, "interval_95": [rate, rate]} for name, rate in (("before", 0.5), ("after", 0))
    }
    cost = {"difference": -0.0125, "interval_95": [-0.05, 0.025]}
    record = rates | {"recall": 0.9, "clips": {"test": 16, "foreign": 40}, "metric": "accuracy", "cost": cost}
    write_json(tmp_path / "alarms.json", record | {"difference": {"told": "fewer"}})
    save_results(work, {"gold-only": "gold_only"}, "--false_alarms", tmp_path / "alarms.json")
    text = Page(make_report(work, "--map", "false")[0]).text
    for line in (
        "false alarms at 90 % recall, on 40 foreign sounds: 50.0 % (50.0 to 50.0), with the label other 0.0 % "
        "(0.0 to 0.0); fewer",
        "accuracy on the test clips with it: -1.2 points (-5.0 to +2.5)",
    ):
        assert line in text


def test_without_filter_and_preference_training(tmp_path):
    html, _ = make_report(save_run(tmp_path / "w", "", rounds=1, dpo=False, filtered=False))
    page = Page(html)
    assert "dpo" not in page.sections and "captions" in page.sections
    assert "no filter" in page.text and "No CLAP model was used" in page.text
    assert len(page.all("audio")) == 16


def test_several_labels_have_no_confusion_matrix(tmp_path):
    html, _ = make_report(save_run(tmp_path / "w", "", rounds=0, dpo=False, multi_label=True))
    assert Page(html).sections == ["scores", "calibration", "clips", "training", "run"] and "mAP" in html


def test_every_method_and_the_verdict(tmp_path):
    """Fusion became the classifier; the curves are those of AST, which was trained as well."""
    work, gold_csv = tmp_path / "w", tmp_path / "w/train_8.csv"
    save_gold(work)
    model, clap = "t2a@0123456789ab", "hub/clap"
    merged, gold = work / "train_8_synthetic.csv", read_manifest(gold_csv)
    parts = [gold_csv, save_round(work, 0, gold, model, clap)]
    assert call_script(ROOT / "merge_csv.py", "--input_csvs", *parts, "--output_csv", merged).returncode == 0
    for name, csv, wrong in (("gold_only", gold_csv, set(range(8, 14))), ("synthio", merged, {13})):
        for folder, head in ((f"{name}_ast", "ast"), (f"{name}_heads/fusion", "fusion"), (name, "fusion")):
            save_classifier(work / "classifier" / folder, csv, wrong | {14} if head == "ast" else wrong, head=head)
    save_classifier(work / "classifier/gold_only_heads/zero_shot", gold_csv, set(), head="zero_shot")
    save_results(work, {"gold-only": "gold_only", "synthio": "synthio"})
    html, _ = make_report(work)
    cells = [re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)]
    rows = {row[0]: row[1:] for row in cells if row}
    fusion, ast, untrained = (rows[TITLES[name]] for name in ("fusion", "ast", "zero_shot"))
    starts = [[cell.split(" (")[0] for cell in row] for row in (fusion, ast, untrained)]
    assert [row[:3] for row in starts] == [["62.5", "93.8", "+31.2"], ["56.2", "87.5", "+31.2"], ["100.0", "-", "-"]]
    assert [float(row[-1]) for row in starts] == pytest.approx([7.5, 13.75, 30], abs=0.06)  # 62.5 right at 70 and so on
    assert [row[4] for row in starts] == ["better", "better", "-"] and "1 cell, intervals over 16 test clips" in html
    assert "Best without synthetic clips, by the validation clips: fusion (probes, own head, zero-shot), 62.5." in html
    assert "Synthetic clips help: +31.2 (" in html
    curves = [picture["alt"] for picture in Page(html).all("img") if " by step" in picture["alt"]]
    assert len(curves) == 3 and all("gold-only: AST" in text and "synthio: AST" in text for text in curves)


def test_calibration_is_shown_before_and_after(finished):
    pictures = [p["alt"] for p in Page(finished[1]).all("img") if p["alt"].startswith("Reliability of ")]
    # 15 of 16 are right at a confidence of 0.7, before at one of 0.4
    assert pictures[1] == (
        "Reliability of synthio: share of right answers by confidence, expected calibration error 0.537 before and "
        "0.238 after calibration."
    )
    assert "Expected calibration error 0.537 before and 0.238 after" in finished[1]


def test_a_classifier_without_steps_has_no_curves(tmp_path):
    work = save_run(tmp_path / "w", "", rounds=0, dpo=False, head="probe")
    assert not [p for p in Page(make_report(work)[0]).all("img") if " by step" in p["alt"]]


def test_several_rounds_of_preference_training(tmp_path):
    """Each adapter went on from the one before, and only the last one made clips."""
    work = save_run(tmp_path / "w", "hub/clap", rounds=0, dpo=False)
    save_adapter(work)
    model = save_adapter(work, "_2")
    save_adapter(work, "_3")  # of another run
    gold = read_manifest(work / "train_8.csv")
    parts = [work / "train_8.csv", save_round(work, 0, gold, model, "hub/clap")]
    merged = work / "train_8_synthetic.csv"
    assert call_script(ROOT / "merge_csv.py", "--input_csvs", *parts, "--output_csv", merged).returncode == 0
    save_classifier(work / "classifier/synthio", merged, {2})
    save_results(work, {"gold-only": "gold_only", "synthio": "synthio"})
    page = Page(make_report(work)[0])
    titles = [
        picture["alt"].split(" over ")[0] for picture in page.all("img") if "without any preference" in picture["alt"]
    ]
    curves = ("loss", "implicit accuracy", "reward margin")
    assert titles == [f"{stage}: {name}" for stage in ("dpo", "dpo 2") for name in curves]
    assert "dpo 2" in page.text and "dpo 3" not in page.text


def test_what_an_earlier_run_left_is_left_out(tmp_path, finished):
    """A round that is no part of the training CSV, and an adapter that made none of its clips."""
    work = save_run(tmp_path / "w", "hub/clap", rounds=1, dpo=False)
    save_round(work, 7, read_manifest(work / "train_8.csv"), "t2a@0", "hub/clap")
    save_adapter(work)
    page = Page(make_report(work)[0])
    assert "round_7 is of an earlier run" in page.text and "dpo" not in page.sections
    assert "is not a folder on this machine" in page.text and len(page.all("audio")) == 16


def test_a_folder_that_was_moved(tmp_path):
    save_run(tmp_path / "before/w", "hub/clap", rounds=1, dpo=True)
    (tmp_path / "before").rename(tmp_path / "after")
    page = Page(make_report(tmp_path / "after/w")[0])
    assert len(page.all("audio")) == 16 and "dpo" in page.sections


def test_a_clip_that_cannot_be_read_says_so(tmp_path):
    work = save_run(tmp_path / "w", "", rounds=0, dpo=False)
    next((work / "gold").glob("*.wav")).write_bytes(b"")
    page = Page(make_report(work)[0])
    assert len(page.all("audio")) == 7 and "cannot be played" in page.text


def test_the_number_of_clips_and_the_size_are_bounded(tmp_path, finished):
    work = save_run(tmp_path / "w", "", rounds=1)
    html, _ = make_report(work, "--max_clips", 6, "--map", "false")
    kinds = Counter(player["aria-label"].split(" clip of ")[0] for player in Page(html).all("audio"))
    assert kinds == {"gold": 2, "kept": 2, "rejected": 2} and "It was not asked for" in html
    noise = np.random.default_rng(0).uniform(-1, 1, (1, 12 * RATE)).astype(np.float32)
    for i in range(12):
        write_wav(work / f"{i}.wav", noise, RATE)
    clips = pd.DataFrame({"path": [str(work / f"{i}.wav") for i in range(12)], "label": "a", "kind": "gold"})
    cards, left = gallery.cards_of(clips.assign(round=""), work, 10.0, 500_000)
    assert 0 <= left < 500_000
    assert 0 < len(cards) < 12 and sum(len(card["audio"]) for card in cards) < 500_000


def test_it_refuses_a_folder_without_scores(tmp_path):
    done = call_script(ROOT / "synthio/report/page.py", "--work", tmp_path)
    assert done.returncode == 2 and "no scores.json there" in done.stderr


OF_AN_EARLIER_VERSION = json.dumps(
    {
        "methods": [
            dict.fromkeys(("name", "file", "metric", "interval_95", "macro_f1", "train", "test"), "")
            | {"to_baseline": {"difference": 0.1, "interval_95": [0, 0.2]}}
        ],
        "seconds": [],
    }
)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "scores.json: damaged, for it is no JSON"),
        ("[]", "scores.json: damaged, for it is no object"),
        ('{"methods": []}', "scores.json: damaged, for it does not say seconds"),
        ('{"methods": [], "seconds": []}', "scores.json: no method in it"),
        ('{"methods": [{"name": "a", "metric": "mAP"}], "seconds": []}', "method 1 has no file, interval_95, macro_f1"),
        (OF_AN_EARLIER_VERSION, "an earlier version wrote it, whose intervals were over clips alone"),
    ],
)
def test_scores_that_lack_something_say_what_and_how_to_mend_it(tmp_path, text, part):
    (tmp_path / "scores.json").write_text(text)
    done = call_script(ROOT / "synthio/report/page.py", "--work", tmp_path)
    assert done.returncode == 2 and part in done.stderr and "Traceback" not in done.stderr
    assert f"write it again: python -m synthio.report.results --output_json {tmp_path}" in done.stderr


def test_scores_of_a_classifier_that_is_gone(tmp_path):
    work = save_run(tmp_path / "w", "", rounds=0, dpo=False)
    shutil.rmtree(work / "classifier/gold_only")
    done = call_script(ROOT / "synthio/report/page.py", "--work", work)
    assert done.returncode == 2 and "train and test that classifier again" in done.stderr


# ---- parts


def test_the_map_is_that_of_an_independent_decomposition():
    from sklearn.decomposition import PCA

    vectors = np.random.default_rng(0).normal(size=(30, 6)) * np.arange(1, 7)
    points, shares = report.project(vectors)
    pca = PCA(2).fit(vectors)
    assert np.abs(points) == pytest.approx(np.abs(pca.transform(vectors)), abs=1e-9)
    assert shares == pytest.approx(pca.explained_variance_ratio_)


def test_thresholds_of_either_form():
    assert report.limits_of({"threshold_as_cosine": 0.2}, ["a", "b"]) == ("clap_score", {"a": 0.2, "b": 0.2})
    assert report.limits_of({"threshold_as_cosine": float("-inf")}, ["a"]) == ("clap_score", {})
    record = {"score": "rank_score", "thresholds": {"a": {"value": 0.4, "origin": "x"}}}
    assert report.limits_of(record, ["a", "b"]) == ("rank_score", {"a": 0.4})


def test_folders_of_the_machine_are_not_shown(tmp_path):
    work = tmp_path / "results/w"
    assert report.shown_value(f"{tmp_path}/results/w_synthetic/a", work) == "w_synthetic/a"
    assert report.shown_value("/home/me/models/clap", work) == "…/models/clap"
    assert report.shown_value([f"{work}/a.csv", 3], work) == "w/a.csv, 3"


def review(work: Path, *decisions: tuple[dict[str, str], str, str]) -> None:
    """Apply a listener's decisions to a run folder, and train and test again on what is left."""
    for name in ("train", "valid", "test"):
        rows = read_manifest(work / "train_8.csv", check_files=False)
        rows = rows if name == "train" else rows.assign(sha256=name)
        write_manifest(rows, work / f"checked/{name}.csv", rows_in=8)
    rows = [{**row, "decision": decision, "new_label": label} for row, decision, label in decisions]
    write_table(pd.DataFrame(rows)[["path", "label", "decision", "new_label", "sha256"]], work.parent / "review.csv")
    kept, rejected = ([work / f"round_{k}/{name}.csv" for k in (0, 1)] for name in ("kept", "rejected"))
    outputs = {"--gold_output": "train_8_reviewed", "--kept_output": "reviewed", "--rejected_output": "out"}
    words = ["--work", work, "--review_csv", work.parent / "review.csv", "--output_csv", work / "decisions.csv"]
    words += [word for name, stem in outputs.items() for word in (name, work / f"{stem}.csv")]
    words += ["--gold_csv", work / "train_8.csv", "--kept_csvs", *kept, "--rejected_csvs", *rejected]
    parts = [work / "train_8_reviewed.csv", work / "reviewed.csv"]
    merged = work / "train_8_synthetic.csv"
    for script, given in (
        ("synthio/data/review.py", ["apply", *words, "--made_csvs", *kept, *rejected]),
        ("merge_csv.py", ["--input_csvs", *parts, "--output_csv", merged]),
    ):
        done = call_script(ROOT / script, *given)
        assert done.returncode == 0, done.stderr
    shutil.rmtree(work / "classifier")
    save_classifier(work / "classifier/gold_only", parts[0], {0})
    save_classifier(work / "classifier/synthio", merged, {2})
    save_results(work, {"gold-only": "gold_only", "synthio": "synthio"})


def test_a_reviewed_run_shows_what_was_decided(tmp_path):
    """All clips are still there, whatever was dropped, so that it can be taken back; the rounds still belong to it."""
    work = save_run(tmp_path / "w", "")
    clips = [
        read_manifest(work / name, check_files=False).to_dict("records") for name in ("train_8.csv", "round_0/kept.csv")
    ]
    decisions = [(clips[0][0], "drop", ""), (clips[0][1], "relabel", LABELS[2]), (clips[1][0], "drop", "")]
    review(work, *decisions)
    html, printed = make_report(work, "--map", "false")
    page = Page(html)
    assert "trained from 7 gold clips" in page.text and "24 of 24 clips" in printed
    assert "is of an earlier run" not in page.text and "filter" in page.sections
    told = json.loads(next(a["data-page"] for _, a in page.elements if "data-page" in a))
    found = [(one["sha256"], one["label"], one["decision"], one["new_label"]) for one in told["earlier"]]
    assert found == [(clip["sha256"], clip["label"], decision, label) for clip, decision, label in decisions]
    few, _ = make_report(work, "--map", "false", "--max_clips", 3)
    shown = [json.loads(a["data-clip"])["sha256"] for _, a in Page(few).elements if "data-clip" in a]
    assert sorted(shown) == sorted(one[0] for one in found)
