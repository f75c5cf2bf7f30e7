"""The steps of a run as the driver declares them."""

from __future__ import annotations

import pytest

from synthio.files import EMBEDDED
from synthio.pipeline.estimate import clips_line, follow_rows
from synthio.pipeline.steps import kind_of, loaded_models, models_of, steps_ahead
from tests.driver_plan import planned

# Options -> the models that a run with them loads, by the variable that names them.
LOADS = {
    "--seed 0": "captioner text_to_audio_model caption_writer clap_model ast_model",
    "--augment false": "clap_model ast_model",
    "--augment false --probe_clap_model a/b": "probe_clap_model ast_model",
    "--use_ast false --augment false --zero_shot true": "clap_model ast_model",
    "--clap_filter false --clap_model msclap:2023": "captioner text_to_audio_model caption_writer clap_model ast_model",
    "--use_ast false --probe_embeddings clap --probe_clap_model msclap:2023": "captioner text_to_audio_model "
    "caption_writer clap_model probe_clap_model ast_model",
    "--clap_filter false --probe_clap_model a/b": "captioner text_to_audio_model caption_writer probe_clap_model "
    "ast_model",
    "--clap_filter false --quality false --probe_clap_model a/b --dpo_pairs ranked": "captioner text_to_audio_model "
    "clap_model caption_writer probe_clap_model ast_model",
    "--filter_w_finetune true": "captioner text_to_audio_model caption_writer clap_model ast_model",
    "--filter_w_finetune true --stage 7 --stop_stage 7 --clap_model msclap:2022": "clap_model",
    "--retrieval_csv corpus.csv --clap_filter false": "clap_model ast_model",
    "--use_label true": "text_to_audio_model caption_writer clap_model ast_model",
    "--use_label true --iterative false": "text_to_audio_model clap_model ast_model",
    "--plain_wo_caption true --dpo_ckpt_folder adapter": "text_to_audio_model caption_writer clap_model ast_model",
    "--supcon true --caption_writer openai --llm_model gpt": "text_to_audio_model caption_writer clap_model ast_model",
    "--threshold_kind rank --classifier_weight 0.5 --stage 6 --stop_stage 9": "text_to_audio_model clap_model "
    "ast_model caption_writer",
    "--other_class true --stage 10": "clap_model ast_model",
    "--other_class true --augment false --other_csv corpus.csv": "clap_model ast_model",
    "--stage 10": "clap_model ast_model",
    "--stop_stage 1": "",
}


MODEL_OPTIONS = ("--model", "--scorer", "--captioner", "--writer", "--clap_model", "--ast_model")


@pytest.mark.parametrize("words", LOADS)
def test_what_is_checked_is_what_the_run_loads(tmp_path, words):
    """The models that --check looks at, those of the steps, and those that the commands name are the same."""
    (tmp_path / "corpus.csv").write_text("path\n")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/adapter_config.json").write_text("{}")
    (tmp_path / "adapter/adapter_model.safetensors").touch()
    steps, variables = planned("--results_root", tmp_path, *words.split(), cwd=tmp_path)
    ahead = steps_ahead(steps, variables)
    loaded = loaded_models(ahead)
    assert {variable for variable, _ in loaded} == set(LOADS[words].split())
    for step in ahead:
        named = {value for option, value in step.options.items() if option in MODEL_OPTIONS}
        assert {model for _, model in step.models} == named, step.name
    made = {str(tmp_path / "demo/clap_finetuned"), str(tmp_path / "demo/clap_finetuned/clap.pth")}
    all_named = {value for step in ahead for option, value in step.options.items() if option in MODEL_OPTIONS}
    assert {model for _, model in loaded} == all_named - made


def test_of_several_generators_each_is_aligned_and_makes_its_share(tmp_path):
    words = ["--results_root", tmp_path, "--text_to_audio_model", "embedded,owner/large", "--dpo_rounds", "2"]
    steps, variables = planned(*words, cwd=tmp_path)
    by_name = {step.name: step for step in steps}
    own = str(EMBEDDED / "text_to_audio")
    assert models_of(steps, "text_to_audio_model") == [own, "owner/large"]
    assert by_name["dpo_m2_2"].models == (("text_to_audio_model", "owner/large"),)
    assert by_name["dpo_m2_2"].options["--init_adapter"].endswith("dpo/adapter_m2")
    assert by_name["generate_m2_1"].options["--adapter"].endswith("dpo/adapter_m2_2")
    assert by_name["generate"].options["--adapter"].endswith("dpo/adapter_2")
    assert by_name["filter"].reads[0] == by_name["gather"].writes[0]
    assert by_name["again"].models == (("text_to_audio_model", own),)
    sizes = [by_name[name].options for name in ("dpo", "dpo_m2")]
    assert [(one["--num_steps"], one["--batch_size"]) for one in sizes] == [("150", "8"), ("500", "4")]
    assert {kind_of(name) for name in ("losers_m2", "losers_m2_2", "generate_m3_1")} == {"losers", "generate"}
    rows = follow_rows(steps)[1]
    made = [rows[by_name[name].writes[0]] for name in ("generate", "generate_m2", "gather")]
    assert made == [50, 50, 100]
    assert "100 synthetic before the filter" in clips_line(steps, variables)


EXTENDED = """--threshold_kind rank --classifier_weight 0.5 --filter_w_finetune true --channel_match true
    --drop_repeats true --dpo_rounds 2"""


@pytest.mark.parametrize("words", ["", EXTENDED])
def test_clips_that_are_added_leave_the_steps_of_the_others_as_they_are(tmp_path, words):
    """Their commands, inputs and outputs, up to what joins all clips: so their stamps hold."""
    (tmp_path / "more.csv").write_text("path,label\n")
    before, _ = planned("--results_root", tmp_path, *words.split(), cwd=tmp_path)
    after, _ = planned("--results_root", tmp_path, "--add_csv", "more.csv", *words.split(), cwd=tmp_path)
    own = [step for step in after if not step.name.endswith("_added") and step.name != "add"]
    assert [step.name for step in own] == [step.name for step in before]
    joined = [step.name for step in before].index("merge")
    assert own[:joined] == before[:joined] and own[joined:] != before[joined:]
    added = [step for step in after if step not in own]
    assert [step.kind for step in added[:2]] == ["add", "merge"]
    once = {"again_prompts", "again", "finetune_clap", "filter_classifier"}
    made = {step.kind for step in before[:joined] if step.number >= 5 or step.kind == "caption"}
    assert {step.kind for step in added[2:]} == made - once
    names = [step.name for step in after]
    outputs = [path for step in after for path in step.writes]
    assert len(set(names)) == len(names) and len(set(outputs)) == len(outputs)


def test_channel_matching_stands_between_generator_and_filter(tmp_path):
    steps, _ = planned("--results_root", tmp_path, "--channel_match", "true", cwd=tmp_path)
    by_name = {step.name: step for step in steps}
    names = list(by_name)
    assert names.index("generate") < names.index("channel") < names.index("filter")
    first, later = by_name["channel"], by_name["channel_1"]
    assert by_name["generate"].writes[0] == first.reads[0] and first.writes[0] in by_name["filter"].reads
    chain = str(tmp_path / "demo/round_0/generated.channel.json")
    assert chain not in first.reads and later.options["--channel"] == chain and chain in later.reads
    assert by_name["losers"].writes[0] not in first.reads
    names = [step.name for step in planned("--results_root", tmp_path, "--channel_match", "false", cwd=tmp_path)[0]]
    assert not any(name.startswith("channel") for name in names)


def test_what_is_generated_again_and_what_quality_is_told_of_it(tmp_path):
    def told(*words):
        steps = {step.name: step for step in planned("--results_root", tmp_path, *words, cwd=tmp_path)[0]}
        said = {name for name in steps["quality"].options if name.endswith(("_csv", "_csvs"))}
        return steps, said & {"--losers_csv", "--first_csv", "--again_csvs", "--kept_csvs"}

    steps, said = told()
    assert said == {"--losers_csv", "--first_csv", "--again_csvs", "--kept_csvs"}
    assert steps["again"].options["--adapter"] == str(tmp_path / "demo/dpo/adapter")
    assert steps["again"].reads[0] == steps["again_prompts"].writes[0]
    assert set(steps["again_prompts"].reads) == {steps["losers"].writes[0], steps["generate"].writes[0]}
    steps, said = told("--dpo", "auto")
    assert said == {"--losers_csv", "--first_csv", "--again_csvs", "--kept_csvs"}
    assert set(steps["again_prompts"].reads) == {steps["generate"].writes[0]}, "losers were generated again before"
    judged = str(tmp_path / "demo/dpo/judged/generated.csv")
    assert set(steps["quality"].reads) >= {judged, steps["again"].writes[0]}
    assert told("--dpo", "false")[1] == {"--first_csv", "--again_csvs", "--kept_csvs"}
    assert told("--use_label", "true", "--clap_filter", "false")[1] == {"--losers_csv", "--again_csvs"}
    for words in (["--attribution_clips", "0"], ["--use_label", "true", "--dpo", "false"]):
        assert "again" not in told(*words)[0]
    assert told("--channel_match", "true")[0]["again_prompts"].reads[1] == str(tmp_path / "demo/round_0/unmatched.csv")


def test_with_auto_clips_are_made_with_what_was_found_of_the_adapter(tmp_path):
    words = ("--results_root", tmp_path, "--dpo", "auto", "--text_to_audio_model", "embedded,owner/large")
    steps = {step.name: step for step in planned(*words, cwd=tmp_path)[0]}
    names = list(steps)
    for tag in ("", "_m2"):
        judge, again, made = (steps[name] for name in (f"judge{tag}", f"again{tag}_judged", f"generate{tag}"))
        adapter, found = str(tmp_path / f"demo/dpo/adapter{tag}"), str(tmp_path / f"demo/dpo/judged{tag}.json")
        assert again.options["--adapter"] == judge.options["--adapter"] == adapter and adapter in judge.reads
        assert judge.writes == (found,) and made.options["--adapter"] == found and found in made.reads
        assert names.index(f"dpo{tag}") < names.index(judge.name) < names.index(made.name) and again.kind == "again"
    assert steps["again"].options["--adapter"] == str(tmp_path / "demo/dpo/judged.json"), "as the first round was"


@pytest.mark.parametrize("words", ["--seed 0", "--augment false"])
def test_the_training_on_gold_clips_is_there_for_the_second_one_but_is_no_input_of_it(tmp_path, words):
    steps, _ = planned("--results_root", tmp_path, *words.split(), cwd=tmp_path)
    by_name = {step.name: step for step in steps}
    given = {step.name: step.options.get("--finished_folder") for step in steps if step.kind == "classify"}
    first = by_name["classify_gold_only"]
    assert given.pop("classify_gold_only") is None
    assert given == ({} if "--augment" in words else {"classify_synthio": first.writes[0]})
    assert all(first.writes[0] not in by_name[name].reads for name in given)
