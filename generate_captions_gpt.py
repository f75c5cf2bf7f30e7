#!/usr/bin/env python3
"""Write the prompts that the text-to-audio model gets (paper, section 3.3: MixCap; section 3.5: self-reflection).

    python generate_captions_gpt.py --mode mixcap --input_csv W/captions.csv --output_csv W/round_0/prompts.csv \\
        --num_captions 2
    python generate_captions_gpt.py --mode rewrite --input_csv W/round_0/rejected.csv \\
        --accepted_csv W/round_0/kept.csv --output_csv W/round_1/prompts.csv
    OPENAI_API_KEY=... python generate_captions_gpt.py --input_csv W/captions.csv --output_csv W/round_0/prompts.csv \\
        --writer openai --llm_model gpt-4o-mini --llm_max_calls 1000

Modes:
  mixcap            what was heard with a label is pooled over the whole dataset; each clip's prompts mix 75 % of it
  plain             from the clip's own caption
  plain_wo_caption  from label and domain alone
  supcon            from label and domain alone, with new events and contexts, as unlike each other as can be
  template          "Sound of a <label>"
  rewrite           one new prompt for each rejected clip, given the accepted prompts of its label

Each output row is a row of the input with `prompt` and `seed`, --num_captions of them for each gold clip.

Writers: embedded is a grammar. openai is any server of that protocol (--llm_base_url http://localhost:8000/v1 for one
of your own); what is sent and spent is printed before and after. Else the folder or hub id of a chat model. What they
are told is in synthio/captions/prompts.toml. Their replies are kept in --cache, so a repeated or interrupted command
pays for nothing twice; a wrong reply is asked for again, and in the end replaced by the grammar.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from synthio.captions.requests import BUILT_IN, PromptOptions, WriterOptions
from synthio.cli import UserError, new_parser, run_main
from synthio.options import add_options, from_args

# what a generated clip's row says of that clip, besides `path` and `sha256`
OF_THE_CLIP = (
    *("source_path", "source_sha256", "model", "clap_score", "clap_probability", "reason", "unmatched_path"),
    "channel_seed",
)


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("--input_csv", required=True, help="gold clips (path, label; caption), or the rejected ones")
    parser.add_argument("--output_csv", required=True, help="output: path, label, prompt, seed")
    parser.add_argument(
        "--pool_csv", default="", help="more gold clips (path, label, caption), whose phrases are pooled, too"
    )
    parser.add_argument("--accepted_csv", nargs="*", default=[], help="clips that were kept (label, prompt)")
    for options in (PromptOptions, WriterOptions):
        add_options(parser, options)
    return parser


def writer_of(args):
    """The writer that the options ask for; a template needs none, and the embedded one stands in."""
    from synthio.captions.load import load_writer

    if args.writer != "openai" and (args.llm_model or args.llm_base_url):
        raise UserError(f"--llm_model and --llm_base_url go with --writer openai, not with '{args.writer}'")
    cache = args.cache or str(Path(args.output_csv).with_suffix(".cache.jsonl"))
    writer = BUILT_IN if args.mode == "template" else args.writer
    return load_writer(writer, from_args(WriterOptions, args, cache=cache))


def pools_of(table, writer, others=None):
    """(label -> what may go to all its clips, each clip's own phrases); equal captions are read once.

    Args:
        table: the clips, with captions.
        writer: what reads them.
        others: more of them, whose phrases go into the pools alone.
    """
    import pandas as pd

    from synthio.captions.pools import own_phrases, pool_captions
    from synthio.manifest import CAPTION, label_words, prompt_cells

    rows = len(table)
    if others is not None:
        table = pd.concat([table, others], ignore_index=True).fillna("")
    cells = prompt_cells(table)
    labels = [label_words(cell) for cell in cells]
    pairs = list(zip(labels, table[CAPTION], strict=True))
    distinct = list(dict.fromkeys(pairs))
    known = dict(zip(distinct, writer.extract(distinct), strict=True))
    pools = pool_captions(cells, [known[pair] for pair in pairs])
    own = [own_phrases(known[pair], pair[0]) for pair in pairs[:rows]]
    shared = {phrase for pool in pools.values() for phrase in pool.events + pool.backgrounds}
    private = {phrase for one in own for phrase in one.events + one.backgrounds} - shared
    print(f"{len(shared)} phrases for all clips of a label, {len(private)} for their own clip alone", file=sys.stderr)
    return pools, own


def gold_requests(table, keys: Sequence[str], args, pools, own: Sequence) -> list:
    """One request for each gold clip; `own` are its own phrases for MixCap."""
    from synthio.captions.pools import sample_pool
    from synthio.captions.requests import CaptionRequest
    from synthio.files import stable_seed
    from synthio.manifest import CAPTION, label_words, prompt_cell

    requests = []
    for key, record, phrases in zip(keys, table.to_dict("records"), own, strict=True):
        seed = stable_seed(args.seed, args.mode, key)
        pool = sample_pool(pools, prompt_cell(record), args.pool_share, seed, phrases)
        caption = record[CAPTION] if args.mode == "plain" else ""
        requests.append(
            CaptionRequest(
                label=label_words(prompt_cell(record)),
                count=args.num_captions,
                seed=seed,
                domain=args.domain,
                caption=caption,
                pool=pool,
                diverse=args.mode == "supcon",
            )
        )
    return requests


def rewrite_requests(table, accepted: Mapping[frozenset[str], Sequence[str]], args) -> list:
    """One request for each rejected clip; the prompts of its labels that were kept show what works."""
    from synthio.captions.requests import CaptionRequest
    from synthio.files import stable_seed
    from synthio.filtering.reasons import rejection_of
    from synthio.manifest import PROMPT, REASON, SEED, label_words, prompt_cell

    return [
        CaptionRequest(
            label=label_words(prompt_cell(record)),
            count=1,
            seed=stable_seed(args.seed, args.mode, record[SEED], record[PROMPT]),
            domain=args.domain,
            rejected=record[PROMPT],
            why=rejection_of(record.get(REASON, "")),
            accepted=prompts_within(accepted, prompt_cell(record)),
        )
        for record in table.to_dict("records")
    ]


def accepted_prompts(csvs: Sequence[str], domain: str) -> dict[frozenset[str], tuple[str, ...]]:
    """Labels -> distinct prompts whose clips were kept, as far as other clips may hear of them."""
    from synthio.captions.pools import is_plain
    from synthio.manifest import LABEL, PROMPT, label_words, prompt_cells, read_manifest, split_labels

    found: dict[frozenset[str], dict[str, None]] = {}
    for csv in csvs:
        table = read_manifest(csv, (LABEL, PROMPT), check_files=False)
        for cell, prompt in zip(prompt_cells(table), table[PROMPT], strict=True):
            if is_plain(prompt, f"{label_words(cell)} {domain}"):
                found.setdefault(frozenset(split_labels(cell)), {})[prompt] = None
    return {labels: tuple(prompts) for labels, prompts in found.items()}


def prompts_within(accepted: Mapping[frozenset[str], Sequence[str]], cell: str) -> tuple[str, ...]:
    """The accepted prompts that name no other labels than those of a cell, all of them or some."""
    from synthio.manifest import split_labels

    wanted = frozenset(split_labels(cell))
    return tuple(dict.fromkeys(text for labels, texts in accepted.items() if labels <= wanted for text in texts))


def as_gold(table):
    """Rows of generated clips as rows of the gold clips they were made for."""
    from synthio.manifest import CONTENT, PATH, SOURCE, SOURCE_CONTENT

    out = table.assign(**{PATH: table[SOURCE]}).drop(columns=CONTENT, errors="ignore")
    if SOURCE_CONTENT in table.columns:
        out[CONTENT] = table[SOURCE_CONTENT]
    return out.drop(columns=list(OF_THE_CLIP), errors="ignore")


def prompt_rows(table, requests, prompts: Sequence[Sequence[str]]):
    """The table with each row repeated for its prompts; a prompt's seed decides the noise its clip starts from."""
    import pandas as pd

    from synthio.files import stable_seed
    from synthio.manifest import PROMPT, SEED

    rows = []
    for record, request, texts in zip(table.to_dict("records"), requests, prompts, strict=True):
        for i, text in enumerate(texts):
            rows.append(record | {PROMPT: text, SEED: str(stable_seed(request.seed, "clip", i))})
    columns = list(dict.fromkeys([*table.columns, PROMPT, SEED]))
    return pd.DataFrame(rows, columns=columns, dtype=str)


def required_columns(mode: str) -> list[str]:
    """The columns that a mode reads."""
    from synthio.manifest import CAPTION, LABEL, PATH, PROMPT, SEED, SOURCE

    more = {"mixcap": [CAPTION], "plain": [CAPTION], "rewrite": [SOURCE, PROMPT, SEED]}
    return [PATH, LABEL, *more.get(mode, [])]


def main() -> int:
    args = get_parser().parse_args()
    from synthio.captions.pools import label_prompt
    from synthio.captions.requests import Extraction
    from synthio.manifest import PROMPT, clip_keys, prompt_cells, read_manifest, write_manifest

    if args.pool_csv and args.mode != "mixcap":
        raise UserError(f"--pool_csv goes with --mode mixcap, not with {args.mode}")
    if args.accepted_csv and args.mode != "rewrite":
        raise UserError(f"--accepted_csv goes with --mode rewrite, not with {args.mode}")
    table = read_manifest(args.input_csv, required_columns(args.mode), check_files=False)
    writer = writer_of(args)
    pools, own = {}, [Extraction()] * len(table)
    if args.mode == "rewrite":
        requests = rewrite_requests(table, accepted_prompts(args.accepted_csv, args.domain), args)
        table = as_gold(table)
    else:
        if args.mode == "mixcap":
            others = read_manifest(args.pool_csv, required_columns(args.mode), False) if args.pool_csv else None
            pools, own = pools_of(table, writer, others)
        requests = gold_requests(table, clip_keys(table, args.input_csv), args, pools, own)
    if args.mode == "template":
        prompts = [[label_prompt(cell)] * args.num_captions for cell in prompt_cells(table)]
    else:
        prompts = writer.write(requests)
    rows = prompt_rows(table, requests, prompts)
    write_manifest(
        rows,
        args.output_csv,
        rows_in=sum(request.count for request in requests),
        options=vars(args),
        inputs=[args.input_csv, *args.accepted_csv, *([args.pool_csv] if args.pool_csv else [])],
        notes={"writer": {"name": writer.name, **writer.counts}, "pools": {k: vars(v) for k, v in pools.items()}},
    )
    if len(rows):
        first, different = rows[PROMPT].iloc[0], rows[PROMPT].nunique()
        print(f"{len(rows)} prompts, {different} different, such as: {first}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_main(main)
