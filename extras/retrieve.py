#!/usr/bin/env python3
"""Take the clips of a corpus that are nearest to the gold clips by CLAP: the paper's baseline "Retrieval".

    python extras/retrieve.py --gold_csv W/train_100.csv --corpus_csv corpus.csv --output_csv W/retrieved.csv \\
        --num_clips 2 --exclude_csvs valid.csv test.csv

The corpus needs the column `path` alone. Each gold clip asks with its own sound, with "Sound of a {label}", or with
the mean of both embeddings. The nearest pairs are taken first, each corpus clip once, until every gold clip has
--num_clips of them or the corpus is used up. A corpus clip that is also a gold clip, or in --exclude_csvs, is passed
over (by `sha256` of its sound, which `synthio.data.check_inputs` writes).

    python extras/retrieve.py --suggest recordings/ --gold_csv W/train_100.csv --output_csv W/suggested.csv

makes a page in which recordings without labels get some by ear, suggested.html beside the CSV: for each label the
--num_clips recordings nearest to one of its gold clips, and --num_uncertain that a probe of the gold clips can hardly
give a label. The page saves labels.csv (path, label), for more training clips.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from synthio.captions.requests import PromptOptions
from synthio.cli import (
    UserError,
    in_range,
    new_parser,
    pick_device,
    quiet_libraries,
    run_main,
    set_threads,
)
from synthio.files import EMBEDDED
from synthio.options import Device, add_options


def get_parser():
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--gold_csv", required=True, help="gold clips: path, label, sha256")
    add("--corpus_csv", default="", help="clips to choose from: path")
    add("--suggest", default="", metavar="FOLDER", help="in place of --corpus_csv, recordings that have no labels")
    add("--output_csv", required=True, help="output: the clips chosen, with the label of their gold clip")
    add(
        "--num_clips",
        type=in_range(int, 1),
        default=PromptOptions.num_captions,
        help="clips for each gold clip; of --suggest for each label",
    )
    add("--num_uncertain", type=in_range(int, 0), default=12, help="for --suggest, the recordings it is least sure of")
    add("--query", choices=["text", "audio", "both"], default="both", help="what a gold clip asks with")
    add("--exclude_csvs", nargs="*", default=[], help="clips that must not be chosen (sha256): validation and test")
    add("--model", default=str(EMBEDDED / "clap"), help="CLAP folder or hub id")
    add("--cache_folder", default="", help="keeps embeddings; empty: beside --output_csv, in embeddings")
    add("--batch_size", type=in_range(int, 1), default=16, help="clips embedded at once")
    add_options(parser, Device)
    return parser


def nearest_first(similarity) -> Iterator[tuple[int, int]]:
    """(row, column) of a matrix [G, N], the largest value first; equal ones in the order of rows."""
    import numpy as np

    for place in np.argsort(-similarity, axis=None, kind="stable"):
        yield divmod(int(place), similarity.shape[1])


def assign(similarity, num_clips: int, hashes, forbidden: Collection[str]) -> list[tuple[int, int]]:
    """Pairs (gold, corpus), in the order of the gold clips and of likeness within them.

    Args:
        similarity: [G, N] of gold and corpus clips.
        num_clips: largest number of corpus clips for each gold clip.
        hashes: hash of the sound of corpus clip j, as a function; asked only of clips that would be taken.
        forbidden: hashes that must not be taken. What is taken is taken once, whatever its file is called.
    """
    room, used, taken, pairs = [num_clips] * len(similarity), set(forbidden), set(), []
    for gold, clip in nearest_first(similarity):
        if not any(room):
            break
        if room[gold] and clip not in taken:
            taken.add(clip)
            if hashes(clip) in used:
                continue
            used.add(hashes(clip))
            room[gold] -= 1
            pairs.append((gold, clip))
    return sorted(pairs, key=lambda pair: pair[0])


def queries(kind: str, texts, sounds):
    """Unit vectors [G, E] that the gold clips ask with."""
    import numpy as np

    mean = {"text": texts, "audio": sounds, "both": texts + sounds}[kind]
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def sound_hash(path: str, csv: str, row: int) -> str:
    """The `sha256` of `synthio.data.check_inputs`."""
    from synthio.data.inspect_sound import inspect

    sound = inspect(path)
    if sound.reason:
        raise UserError(f"{csv} row {row + 1}: {path}: {sound.reason}")
    return sound.sha256


def embed(args, gold, corpus, where: str):
    """(cosines [G, N] of gold and corpus clips, embeddings [G, E] and [N, E])."""
    from synthio.captions.pools import label_prompt
    from synthio.classification.embeddings import EmbeddingCache, embed_clips
    from synthio.manifest import PATH, prompt_cells
    from synthio.models.load import load_scorer

    cache = EmbeddingCache(args.cache_folder or Path(args.output_csv).parent / "embeddings", "clap", args.model)
    scorer = load_scorer(args.model, pick_device(args.device))
    vectors = [
        embed_clips(cache, lambda: scorer, table[PATH], csv, args.batch_size)
        for table, csv in ((gold, args.gold_csv), (corpus, where))
    ]
    texts = scorer.embed_text([label_prompt(cell) for cell in prompt_cells(gold)])
    return queries(args.query, texts, vectors[0]) @ vectors[1].T, vectors


def readable(folder: str):
    """The sounds of a folder that can be read, as a table with `path`, those that cannot are said.

    Raises:
        UserError: there is no such folder, or nothing to hear in it.
    """
    import pandas as pd

    from synthio.audio import BadAudio, is_sound_name, probe
    from synthio.files import files_in
    from synthio.manifest import PATH

    if not Path(folder).is_dir():
        raise UserError(f"--suggest {folder}: no such folder")
    paths = []
    for path in filter(is_sound_name, files_in(Path(folder))):
        try:
            probe(path)
            paths.append(str(path.absolute()))
        except BadAudio as error:
            print(f"left out: {path}: {error}", file=sys.stderr)
    if not paths:
        raise UserError(f"--suggest {folder}: no sound files there that can be read")
    return pd.DataFrame({PATH: paths}, dtype=str)


def suggest(args, gold, recordings, similarity, vectors, hashes, forbidden):
    """The suggestions as a table: the nearest of each label, and the least sure of all others.

    Args:
        args: of the script.
        gold, recordings: tables.
        similarity: cosines [G, N] of what gold clips ask with, and recordings.
        vectors: embeddings [G, E] and [N, E].
        hashes: hash of the sound of recording n, as a function.
        forbidden: hashes of sounds that have a label already.
    """
    from synthio.classification.labels import encode_labels
    from synthio.manifest import LABEL, PATH, all_labels, has_several_labels
    from synthio.report.suggestions import NEAREST, Suggestion, cards_table, chances_of, label_similarity, least_sure

    cells = gold[LABEL].tolist()
    labels, several = all_labels(cells), has_several_labels(cells)
    targets = encode_labels(cells, labels, args.gold_csv, several)
    by_label = label_similarity(similarity, targets)
    pairs = assign(by_label, args.num_clips, hashes, forbidden)
    found = [
        Suggestion(n, labels[c], NEAREST, f"cosine {by_label[c, n]:.2f} to a gold clip", hashes(n)) for c, n in pairs
    ]
    chances = chances_of(vectors[0], targets, vectors[1], several)
    used = forbidden | {one.sha256 for one in found}
    found += least_sure(chances, labels, hashes, used, args.num_uncertain, several)
    return cards_table(found, recordings[PATH].tolist()), labels, several


def write_suggestions(args, table, labels, several: bool, count: int) -> None:
    """The table, and the page beside it."""
    from synthio.manifest import write_table
    from synthio.report.suggestions import write_page

    if table.empty:
        raise UserError(f"--suggest {args.suggest}: every recording has a label already")
    page = Path(args.output_csv).with_suffix(".html")
    write_table(table, args.output_csv)
    write_page(table, Path(args.suggest).absolute().name, count, labels, several, page)
    print(f"{page}: {len(table)} of {count} recordings; open it, and label them by ear")


def result_row(gold: dict, clip: dict, similarity: float, digest: str, model: str) -> dict[str, str]:
    """The row of a retrieved clip: the columns of its gold clip, whose path becomes source_path."""
    from synthio.captions.pools import label_prompt
    from synthio.manifest import CONTENT, DURATION, MODEL, PATH, PROMPT, RETRIEVED, SOURCE, SOURCE_CONTENT, prompt_cell

    return gold | {
        PATH: clip[PATH],
        SOURCE: gold[PATH],
        SOURCE_CONTENT: gold[CONTENT],
        CONTENT: digest,
        DURATION: clip.get(DURATION, ""),
        PROMPT: label_prompt(prompt_cell(gold)),
        MODEL: f"{RETRIEVED}{model}",
        "retrieval_cosine": f"{similarity:.6f}",
    }


def main() -> int:
    args = get_parser().parse_args()
    from functools import cache

    import pandas as pd

    from synthio.manifest import CONTENT, LABEL, PATH, read_manifest, write_manifest

    quiet_libraries()
    set_threads()
    gold = read_manifest(args.gold_csv, (PATH, LABEL, CONTENT))
    if bool(args.suggest) == bool(args.corpus_csv):
        raise UserError(
            "give either --corpus_csv, clips to choose from, or --suggest, recordings to be labelled by ear"
        )
    corpus = readable(args.suggest) if args.suggest else read_manifest(args.corpus_csv, (PATH,))
    where = args.suggest or args.corpus_csv
    if corpus.empty:
        raise UserError(f"{args.corpus_csv}: no rows; list the clips to choose from")
    others = [read_manifest(csv, (CONTENT,), check_files=False) for csv in args.exclude_csvs]
    forbidden = {digest for table in (gold, *others) for digest in table[CONTENT]}
    hashes = cache(lambda clip: sound_hash(corpus[PATH][clip], where, clip))
    similarity, vectors = embed(args, gold, corpus, where)
    if args.suggest:
        table, labels, several = suggest(args, gold, corpus, similarity, vectors, hashes, forbidden)
        write_suggestions(args, table, labels, several, len(corpus))
        return 0
    pairs = assign(similarity, args.num_clips, hashes, forbidden)
    gold_rows, clips, name = gold.to_dict("records"), corpus.to_dict("records"), Path(args.model).name
    rows = [result_row(gold_rows[g], clips[c], similarity[g, c], hashes(c), name) for g, c in pairs]
    if not rows:
        raise UserError(f"{args.corpus_csv}: every clip of it is a gold, validation or test clip")
    inputs = [args.gold_csv, args.corpus_csv, *args.exclude_csvs]
    write_manifest(pd.DataFrame(rows), args.output_csv, rows_in=len(rows), options=vars(args), inputs=inputs)
    print(f"{len(rows)} of {len(corpus)} corpus clips for {len(gold)} gold clips ({args.num_clips} wanted for each)")
    return 0


if __name__ == "__main__":
    run_main(main)
