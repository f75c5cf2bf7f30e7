"""What run.sh says first: clips, steps and seconds, from its own notes of an earlier run or from a measured one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from synthio.files import ROOT
from synthio.pipeline.estimate import (
    MEASURED,
    Work,
    clips_of,
    expected_time,
    follow_rows,
    in_words,
    is_own,
    parse_variables,
    read_durations,
    seconds_of,
    start_lines,
    work_of,
    works_of,
)

CPU = "CPU, processes: 1, threads of each: 2"


def stages(plan, **changes):
    return [work.stage for work in works_of(*plan(**changes))]


GOLD = ["classify_gold_only", "heads_gold_only", "choose_gold_only"]


def test_the_steps_and_their_rows(plan):
    """73 % of the clips of a round pass; what a step reads is what the one before it writes."""
    rows = [(step.name, count) for step, count in follow_rows(plan()[0])[0]]
    first = [("demo", 200), ("check", 200), ("stratify", 200), ("caption", 100), ("loser_prompts", 100)]
    first += [("losers", 200), ("dpo", 100), ("captions", 100), ("generate", 200), ("filter", 200)]
    again = [(f"{name}_{k}", n) for k, n in ((1, 54), (2, 15)) for name in ("rewrite", "generate", "filter")]
    assert rows[:16] == first + again
    assert rows[16:] == [
        *(("again_prompts", 200), ("again", 32), ("merge", 100), ("dataset", 296)),
        *(("classify_gold_only", 100), ("heads_gold_only", 100)),
        *(("choose_gold_only", 100), ("quality", 296), ("classify_synthio", 296), ("heads_synthio", 296)),
        *(("choose_synthio", 296), ("report", 296)),
    ]


def test_only_what_will_run_takes_time(plan):
    assert stages(plan, augment="false") == ["demo", "check", "stratify", *GOLD, "report"]
    assert stages(plan, stage=6, stop_stage=7) == ["generate", "filter"]
    assert "finetune_clap" in stages(plan, filter_w_finetune="true")
    few = stages(plan, num_samples=1, num_iters=2, reflect_rounds=9)  # 2 clips, then 1, then none
    assert [name for name in few if name.startswith("rewrite")] == ["rewrite_1"]


def test_few_steps_take_less_than_the_own_ones_of_the_model(plan):
    """Of the embedded model, whose weights for few steps are taken unless they are refused."""
    few, own, same = (
        sum(work.amount() for work in works_of(*plan(**given)) if work.kind == "losers")
        for given in ({}, {"distilled": "false"}, {"num_steps": 24})
    )
    assert own == same == 8 * few


def test_passes_over_the_pairs_are_steps(plan):
    (dpo,) = (work for work in works_of(*plan(dpo_num_epochs=3, dpo_batch_size=4)) if work.stage == "dpo")
    assert dpo.steps == 150 and dpo.batch == 4  # 3 x 200 losers, 4 at once


def test_a_run_takes_what_it_took_when_it_was_measured(plan):
    """The demo: 198 s of the processor, some 8 of them before and between the stages. Without the report."""
    steps, variables = plan(make_report="false", num_samples=50)
    assert sum(seconds_of(work, [], measured=True) for work in works_of(steps, variables)) == pytest.approx(
        190, rel=0.2
    )
    text = expected_time(steps, variables)
    assert re.fullmatch(r"about (3|4) min if nothing is up to date \(as measured on one core\)", text)


def test_a_classifier_with_patience_takes_half_its_steps(plan):
    def steps_of(**changes):
        return [work.steps for work in works_of(*plan(**changes)) if work.kind == "classify"]

    assert steps_of(ast_patience=0, ast_num_steps=200) == [200, 200]
    assert steps_of(ast_num_steps=200) == [94, 94]


def test_other_models_and_other_machines_are_unknown(plan):
    text = expected_time(*plan(text_to_audio_model="owner/model"))
    assert text == "unknown; not timed yet with these models on this machine: losers, dpo, generate"
    steps, variables = plan(dpo="false")
    text = expected_time(steps, variables | {"machine": "GPU 0"})
    assert text.endswith(": caption, generate, filter, classify, heads, quality")


def test_the_laptops_profile_is_timed_before_its_first_run(plan):
    """By the sizes of Stable Audio 3 small and what LAION's CLAP takes to hear a clip."""
    steps, variables = plan(profile="laptop")
    assert re.fullmatch(
        r"about \d.* if nothing is up to date \(as measured on one core\)", expected_time(steps, variables)
    )

    def seconds(longest_s, **changes):
        works = works_of(*plan(**{"profile": "laptop"} | changes))
        return sum(seconds_of(work, [], True, longest_s) for work in works if work.kind in ("generate", "filter"))

    assert seconds(2.0) < seconds(4.0) < seconds(10.0)
    many, few = seconds(4.0, num_steps=16), seconds(4.0, num_steps=4)
    assert seconds(4.0) - few == pytest.approx((many - seconds(4.0)) / 2)  # 8 steps are its own
    base = {"text_to_audio_model": "stabilityai/stable-audio-3-small-sfx-base"}
    assert seconds(4.0, **base) > 15 * (seconds(4.0) - seconds(4.0, num_steps=1)), "100 steps of two passes"
    assert expected_time(steps, variables | {"machine": "GPU 0"}).startswith("unknown")


def test_what_an_earlier_run_took_counts_scaled_by_the_work(plan):
    def line(stage, seconds, rows, command, machine=CPU):
        return "\t".join([stage, seconds, rows, machine, command])

    generate = "'python' 'generate.py' '--model' 'a/model' '--batch_size' '16' '--num_steps'"
    changes = {"text_to_audio_model": "a/model", "num_steps": "50"}
    steps, variables = plan(**changes)
    durations = Path(variables["work"]) / "durations.tsv"
    durations.parent.mkdir()
    text = [
        line("generate", "999", "200", generate + " '50'"),
        line("generate", "40.0", "100", generate + " '50'"),
        line("generate", "1.0", "100", generate + " '50'", machine="GPU 0"),
        line("dpo", "30.0", "", "'x' '--model' 'a/model' '--num_steps' '100' '--batch_size' '4'"),
        line("filter", "5.0", "100", "'x' '--model' 'half a li"),
    ]
    durations.write_text("\n".join(text))
    earlier = read_durations(durations, CPU)
    assert [then.stage for then, _ in earlier] == ["dpo", "generate", "generate"]
    assert seconds_of(Work("generate", 200, 50, 16, "a/model"), earlier, False) == pytest.approx(80)
    assert seconds_of(Work("generate_1", 50, 100, 16, "a/model"), earlier, False) == pytest.approx(40)
    assert seconds_of(Work("generate", 200, 0, 16, "a/model"), earlier, False) is None  # steps not said
    assert seconds_of(Work("generate", 200, 50, 16, "another"), earlier, False) is None
    assert seconds_of(Work("dpo", 0, 50, 8, "a/model"), earlier, False) == pytest.approx(30)
    assert "unknown; not timed yet with these models on this machine: losers" in expected_time(steps, variables)
    assert expected_time(*plan(**changes, dpo="false")).endswith("(from the last run)")


def test_heads_take_the_time_of_the_clips_that_they_hear(plan, make_manifest):
    """What those on gold clips heard is kept for the others; the models are those of their command."""
    csvs = {"input_train_file": make_manifest("t.csv", [(f"{i}.wav", "a") for i in range(100)])}
    csvs |= {
        name: make_manifest(f"{name}.csv", [(f"{i}.wav", "a") for i in range(30)]) for name in ("valid_csv", "test_csv")
    }

    def heads(**changes):
        return [work for work in works_of(*plan(**csvs, use_ast="false", **changes)) if work.kind == "heads"]

    gold, synthio = heads()
    assert gold.rows == 160 and synthio.rows == 296 and is_own(gold.model)
    command = "'/x/ast/heads.py' '--ast_model' 'a/a' '--clap_model' 'c/c' '--cache_folder' 'e'"
    then = work_of("heads_gold_only", 0, shlex.split(command))
    assert then == Work("heads_gold_only", model="a/a,c/c")
    gold, synthio = heads(ast_model="a/a", clap_model="x/x", probe_clap_model="c/c")
    assert seconds_of(gold, [(then, 7.0)], measured=False) == 7
    gold, synthio = heads(ast_model="a/a", clap_model="x/x")
    assert seconds_of(synthio, [(then, 7.0)], measured=False) is None
    assert is_own(f"embedded,{ROOT}/extras/embedded/weights/clap") and not is_own("embedded,laion/clap")


def test_clips_are_counted(plan, make_manifest, tmp_path):
    assert clips_of(*plan()) == 100
    csv = make_manifest("train.csv", [(f"{i}.wav", "a\nb") for i in range(7)])
    given = {"num_samples": 0, "input_train_file": csv, "valid_csv": csv, "test_csv": csv}
    assert clips_of(*plan(**given)) == 7
    assert clips_of(*plan(num_samples=0)) == 200
    steps, variables = plan(**given)
    csv.unlink()
    assert clips_of(steps, variables) is None
    assert expected_time(steps, variables) == "unknown: the training clips cannot be counted"


def test_the_first_lines(plan):
    lines = start_lines(*plan(clap_model=ROOT / "extras/embedded/weights/clap"))
    assert len(lines) == 5 and "    models   embedded" in lines
    assert "    clips    100 gold, 200 synthetic before the filter, at most 2 rounds for what it drops" in lines
    lines = start_lines(*plan(caption_writer="openai", llm_model="gpt"))
    assert "caption_writer gpt, clap embedded" in lines[2]
    assert "100 gold, none synthetic" in "\n".join(start_lines(*plan(augment="false")))
    assert "    models   none" in start_lines(*plan(stop_stage=1))


def test_seconds_in_words():
    assert [in_words(s) for s in (0.2, 89, 840, 9000)] == ["1 s", "89 s", "14 min", "2.5 h"]


def test_every_measured_kind_is_one_of_a_step(plan):
    everything = {"threshold_kind": "rank", "classifier_weight": 1, "filter_w_finetune": "true", "other_class": "true"}
    everything |= {"channel_match": "true", "dpo": "auto"}
    plans = [plan(**everything), plan(advise="true")]
    assert set(MEASURED) <= {work.kind for planned in plans for work in works_of(*planned)}


def test_advice_makes_some_clips_of_each_label_and_tests_nothing(plan):
    """Ten labels are assumed: with the demo's it is what is made."""
    assert stages(plan, advise="true") == ["demo", "check", "stratify", "prompts_advise", "generate_advise", "advise"]
    assert "100 gold, 100 synthetic" in "\n".join(start_lines(*plan(advise="true")))


def test_words_that_are_no_variables():
    with pytest.raises(ValueError, match="'x' is not name=value"):
        parse_variables(["a=b=c", "x"])
    assert parse_variables(["a=b=c"]) == {"a": "b=c"}
