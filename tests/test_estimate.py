"""What run.sh says first: clips, stages and seconds, from its own notes of an earlier run or from a measured one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from synthio.estimate import (
    MEASURED,
    ROOT,
    Work,
    expected_time,
    gold_clips,
    in_words,
    is_own,
    parse_variables,
    plan,
    read_durations,
    seconds_of,
    start_lines,
    used_models,
    work_of,
)
from tests.test_readme import driver_variables

CPU = "CPU, processes: 1, threads of each: 2"


@pytest.fixture
def variables(tmp_path):
    """Variables of run.sh as they are for the demo set."""
    values = {name: default for name, (default, _) in driver_variables().items()}
    values |= {"num_samples": "100", "is_demo": "true", "machine": CPU, "work": str(tmp_path)}
    return values | {"train_csv": str(tmp_path / "train_100.csv")}


def stages(variables, gold=100):
    return [work.stage for work in plan(variables, gold)]


def test_the_plan_has_the_stages_that_take_time(variables):
    whole = ["demo", "check", "stratify", "caption", "losers", "dpo", "captions", "generate", "filter"]
    whole += [f"{name}_{k}" for k in (1, 2) for name in ("rewrite", "generate", "filter")]
    last = ["classify_gold_only", "heads_gold_only", "quality", "classify_synthio", "heads_synthio", "report"]
    whole += ["dataset", *last]
    assert stages(variables) == whole
    assert stages(variables | {"augment": "false"}) == ["demo", "check", "stratify", *last[:2], "report"]
    assert not {"quality", "report"} & set(stages(variables | {"quality": "false", "make_report": "false"}))
    assert stages(variables | {"stage": "6", "stop_stage": "7"}) == ["generate", "filter"]
    assert "losers" not in stages(variables | {"dpo_loss": "sft"})
    assert "dpo_2" in stages(variables | {"dpo_rounds": "2"})
    assert not {"dpo", "losers"} & set(stages(variables | {"dpo_ckpt_folder": "x"}))
    assert "caption" not in stages(variables | {"use_label": "true"})
    assert "caption" not in stages(variables | {"supcon": "true"})
    kept = ["demo", "check", "stratify", "retrieve", "filter", "dataset", *last]
    assert stages(variables | {"retrieval_csv": "corpus.csv"}) == kept
    assert not [
        name for name in stages(variables | {"clap_filter": "false"}) if name.startswith(("filter", "generate_"))
    ]


def test_a_run_takes_what_it_took_when_it_was_measured(variables):
    """The demo: 659 s while other work kept one of two cores busy, without the report."""
    variables |= {"make_report": "false"}
    seconds = sum(seconds_of(work, [], measured=True) for work in plan(variables, 100))
    assert seconds == pytest.approx(659, rel=0.2)
    text = expected_time(variables)
    assert re.fullmatch(r"about (11|12|13) min if nothing is up to date \(as measured on one core\)", text)


def test_other_models_and_other_machines_are_unknown(variables):
    text = expected_time(variables | {"text_to_audio_model": "owner/model"})
    assert text == "unknown; not timed yet with these models on this machine: losers, dpo, generate"
    text = expected_time(variables | {"machine": "GPU 0", "dpo": "false"})
    assert text.endswith(": caption, generate, filter, classify, heads, quality")
    assert expected_time(variables | {"is_demo": "false", "num_samples": "0"}).startswith("unknown: the training clips")


def test_what_an_earlier_run_took_counts_scaled_by_the_work(variables):
    def line(stage, seconds, rows, command, machine=CPU):
        return "\t".join([stage, seconds, rows, machine, command])

    generate = "'python' 'generate.py' '--model' 'a model' '--batch_size' '16' '--num_steps'"
    durations = Path(variables["work"]) / "durations.tsv"
    text = [
        line("generate", "999", "200", generate + " '50'"),
        line("generate", "40.0", "100", generate + " '50'"),
        line("generate", "1.0", "100", generate + " '50'", machine="GPU 0"),
        line("dpo", "30.0", "", "'x' '--model' 'a model' '--num_steps' '100' '--batch_size' '4'"),
        line("filter", "5.0", "100", "'x' '--model' 'half a li"),
    ]
    durations.write_text("\n".join(text))
    earlier = read_durations(durations, CPU)
    assert [then.stage for then, _ in earlier] == ["dpo", "generate", "generate"]
    assert seconds_of(Work("generate", 200, 50, 16, "a model"), earlier, False) == pytest.approx(80)
    assert seconds_of(Work("generate_1", 50, 100, 16, "a model"), earlier, False) == pytest.approx(40)
    assert seconds_of(Work("generate", 200, 0, 16, "a model"), earlier, False) is None  # steps not said
    assert seconds_of(Work("generate", 200, 50, 16, "another"), earlier, False) is None
    assert seconds_of(Work("dpo", 0, 50, 8, "a model"), earlier, False) == pytest.approx(30)
    changed = variables | {"text_to_audio_model": "a model", "num_steps": "50"}
    assert "unknown; not timed yet with these models on this machine: losers" in expected_time(changed)
    assert expected_time(changed | {"dpo": "false"}).endswith("(from the last run)")


def test_heads_take_the_time_of_the_clips_that_they_hear(variables, make_manifest):
    """What those on gold clips heard is kept for the others; the models are those of their command."""
    variables |= {"use_ast": "false", "quality": "false"}
    variables["valid_csv"] = str(make_manifest("valid.csv", [(f"{i}.wav", "a") for i in range(30)]))
    gold, synthio = (work for work in plan(variables, 100) if work.kind == "heads")
    assert gold == Work("heads_gold_only", 130, model="embedded,embedded") and synthio.rows == 200
    assert not {"classify_gold_only", "classify_synthio"} & set(stages(variables))
    command = "'python' '/x/ast/heads.py' '--ast_model' 'a' '--clap_model' 'c' '--cache_folder' 'e'"
    then = work_of("heads_gold_only", "", command)
    assert then == Work("heads_gold_only", model="a,c")
    own = variables | {"ast_model": "a", "clap_model": "x", "probe_clap_model": "c"}
    gold, synthio = (work for work in plan(own, 100) if work.kind == "heads")
    assert seconds_of(gold, [(then, 7.0)], measured=False) == 7
    other = variables | {"ast_model": "a", "clap_model": "x"}
    assert seconds_of(plan(other, 100)[-3], [(then, 7.0)], measured=False) is None
    zero_shot = {"augment": "false", "zero_shot": "true"}
    assert stages(variables | zero_shot)[-2:] == ["heads_gold_only", "report"]
    assert is_own(f"embedded,{ROOT}/extras/embedded/weights/clap") and not is_own("embedded,laion/clap")


def test_clips_are_counted(variables, make_manifest, tmp_path):
    assert gold_clips(variables) == 100
    csv = make_manifest("train.csv", [(f"{i}.wav", "a\nb") for i in range(7)])
    changed = variables | {"num_samples": "0", "input_train_file": str(csv)}
    assert gold_clips(changed) == 7
    assert gold_clips(variables | {"num_samples": "0", "input_train_file": str(tmp_path / "x")}) == 200
    assert gold_clips(variables | {"num_samples": "0", "input_train_file": "", "is_demo": "false"}) is None


def test_the_first_lines(variables):
    own = str(ROOT / "extras/embedded/weights/clap")
    lines = start_lines(variables | {"clap_model": own})
    assert len(lines) == 5 and "    models   embedded" in lines
    assert "    clips    100 gold, 200 synthetic before the filter, at most 2 rounds for what it drops" in lines
    lines = start_lines(variables | {"caption_writer": "openai", "llm_model": "gpt", "augment": "true"})
    assert "caption_writer gpt, clap embedded" in lines[2]
    assert "100 gold, none synthetic" in "\n".join(start_lines(variables | {"augment": "false"}))


def test_the_models_that_are_used(variables):
    """The heads always hear AST and a CLAP; clap_model is one more where it filters and they have another."""
    for change in ({}, {"use_ast": "false"}, {"use_ast": "false", "zero_shot": "true"}):
        assert used_models(variables | {"augment": "false"} | change) == ["clap_model", "ast_model"]
    other, alone = {"probe_clap_model": "c"}, {"augment": "false"}
    assert used_models(variables | alone | other) == ["probe_clap_model", "ast_model"]
    assert used_models(variables | alone | {"probe_clap_model": variables["clap_model"]}) == ["clap_model", "ast_model"]
    both = ["probe_clap_model", "clap_model", "ast_model"]
    retrieved = {"retrieval_csv": "corpus.csv", "clap_filter": "false"}
    assert used_models(variables | retrieved) == both[1:] and used_models(variables | retrieved | other) == both
    assert used_models(variables | other)[-3:] == both
    assert "captioner" not in used_models(variables | {"plain_wo_caption": "true"})
    unfiltered = variables | {"use_label": "true", "clap_filter": "false"}
    assert used_models(unfiltered) == ["text_to_audio_model", "clap_model", "ast_model"]
    assert used_models(unfiltered | other) == ["text_to_audio_model", "probe_clap_model", "ast_model"]
    assert used_models(unfiltered | other | {"dpo_pairs": "ranked"})[1:] == both


def test_seconds_in_words():
    assert [in_words(s) for s in (0.2, 89, 840, 9000)] == ["1 s", "89 s", "14 min", "2.5 h"]


def test_every_measured_kind_is_one_of_a_stage(variables):
    assert {work.kind for work in plan(variables | {"classifier_weight": "1"}, 100)} == set(MEASURED)


def test_words_that_are_no_variables():
    with pytest.raises(ValueError, match="'x' is not name=value"):
        parse_variables(["a=b=c", "x"])
    assert parse_variables(["a=b=c"]) == {"a": "b=c"}
