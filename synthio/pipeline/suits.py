"""Whether the models of a run can do what it asks of them, told by their files before anything runs.

    python -m synthio.pipeline.suits ahead="check stratify ..." use_ast=true ... < steps    status 2: one cannot

The words and the steps are those of `synthio.pipeline.doctor`, which says the same for `sh run.sh --check`. A folder's
config.json is read, and of a hub id that of its cache or of the hub; what cannot be seen is told by the stage that
loads it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from synthio.cli import AUTO, UserError, new_parser, run_main
from synthio.generation.options import FLOW_ONLY
from synthio.models.classifiers import FINE_TUNED, NOT_COMPILED, PE_AUDIO, is_ast, kind_of, misfit, scorer_misfit
from synthio.models.load import has_distilled, scorer_backend_of
from synthio.pipeline.estimate import is_embedded, is_on, parse_variables
from synthio.pipeline.sizes import scalar_in, sizes_of
from synthio.pipeline.steps import Step, loaded_models, models_of, read_steps, steps_ahead


def get_parser():
    parser = new_parser(__doc__)
    parser.add_argument("variables", nargs="+", metavar="NAME=VALUE", help="a variable of run.sh, or what it found out")
    return parser


def misfits(loaded: Mapping[str, str], variables: Mapping[str, str]) -> Iterator[str]:
    """What a model cannot do, each in one line that says what to change.

    Args:
        loaded: variable of run.sh -> model.
        variables: those of the run.
    """
    for name in ("ast_model", "clap_model", "probe_clap_model"):
        model = loaded.get(name, "embedded")
        if not is_embedded(name, model):
            check = classifier_misfit if name == "ast_model" else clap_misfit
            yield from filter(None, [check(name, model, variables)])
    yield from filter(None, [out_of_reach(loaded.get("clap_model", "embedded"), variables)])


def generator_misfits(steps: Sequence[Step], variables: Mapping[str, str]) -> Iterator[str]:
    """What a generator cannot do, as `misfits`; each of several.

    Args:
        steps: those that will run.
        variables: those of the run.
    """
    aligned = {model for step in steps if step.kind == "dpo" for _, model in step.models}
    for model in models_of(steps, "text_to_audio_model"):
        sizes, what = sizes_of(model), f"text_to_audio_model {model}"
        if variables.get("distilled") == "true" and not has_distilled(model):
            yield f"distilled=true: {what} has no distilled weights beside its own; set distilled=auto"
        if sizes is None:
            continue
        if sizes.is_distilled and model in aligned:
            yield f"{what} is distilled, which an alignment would undo; set dpo=false, or take its -base"
        if sizes.objective == "v" and variables.get("sampler") in FLOW_ONLY:
            text = f"sampler={variables['sampler']} is for rectified flows, and {what} is a v model"
            yield f"{text}; take dpmpp_3m_sde, or auto, which each generator has its own with"


def classifier_misfit(name: str, model: str, variables: Mapping[str, str]) -> str:
    """Why a model cannot be the classifier, or not with this recipe; "" where it can."""
    text = misfit(model, is_on(variables, "use_ast"))
    if text:
        return f"{name} {model}: {text}"
    if is_on(variables, "use_ast") and is_on(variables, "ast_spec_augment") and not is_ast(model):
        what = f"{name} {model} is a '{kind_of(model)}'"
        return f"ast_spec_augment=true masks AST's spectrogram, and {what}; leave it out"
    return ""


def clap_misfit(name: str, model: str, variables: Mapping[str, str]) -> str:
    """Why a model cannot filter or be a head's CLAP, or not be fine-tuned; "" where it can."""
    if scorer_backend_of(model) != "transformers":
        return ""
    text = scorer_misfit(model)
    if text:
        return f"{name} {model}: {text}"
    is_tuned = name == "clap_model" and is_on(variables, "clap_filter") and is_on(variables, "filter_w_finetune")
    if is_tuned and kind_of(model) in PE_AUDIO:
        what = f"{name} {model} is a '{kind_of(model)}'"
        return f"filter_w_finetune=true trains by the loss of CLAP, and {what}; leave it out"
    return ""


def asked_threshold(variables: Mapping[str, str]) -> float | None:
    """The number that clips are kept from on, if it is one."""
    asked = variables.get("clap_threshold", AUTO)
    is_number = variables.get("threshold_kind") == "absolute" and is_on(variables, "clap_filter") and asked != AUTO
    return float(asked) if is_number else None


def out_of_reach(model: str, variables: Mapping[str, str]) -> str:
    """Why no clip can reach the threshold: a cosine is at most 1, so that the sigmoid is at most that of the scale."""
    threshold, scale = asked_threshold(variables), cosine_scale(model)
    if threshold is None or scale is None or (most := 1 / (1 + math.exp(-scale))) >= threshold:
        return ""
    text = f"clap_model {model} says at most sigmoid(scale {scale:.3g}) = {most:.3f}, so no clip reaches"
    return f"{text} clap_threshold={threshold:g}; take a lower one, or auto"


def cosine_scale(model: str) -> float | None:
    """The scale of a ClapModel's cosine, of its folder; None: it is no such folder, or cannot be read."""
    path = Path(model) / "model.safetensors"
    value = scalar_in(path, "logit_scale_a") if path.is_file() else None
    return None if value is None else math.exp(value)


def remarks(loaded: Mapping[str, str], variables: Mapping[str, str]) -> Iterator[str]:
    """What a user may want to know of models that do what is asked, as `misfits`."""
    model = loaded.get("ast_model", "embedded")
    if is_on(variables, "compile") and is_on(variables, "use_ast") and kind_of(model) in FINE_TUNED:
        yield f"compile=true: ast_model {model} {NOT_COMPILED}"
    model, threshold = loaded.get("clap_model", "embedded"), asked_threshold(variables)
    if threshold is None or is_embedded("clap_model", model) or kind_of(model) not in PE_AUDIO:
        return
    yield (
        f"clap_threshold={threshold:g}: of clap_model {model} it is a probability, sigmoid(scale * product + bias), "
        "and not the paper's sigmoid(scale * cosine); auto suits both (docs/filter.md)"
    )


def main() -> int:
    variables = parse_variables(get_parser().parse_args().variables)
    ahead = steps_ahead(read_steps(sys.stdin), variables)
    loaded = dict(loaded_models(ahead))
    found = [*generator_misfits(ahead, variables), *misfits(loaded, variables)]
    for text in found[1:]:
        print(text, file=sys.stderr)
    if found:
        raise UserError(found[0])
    for text in remarks(loaded, variables):
        print(text)
    return 0


if __name__ == "__main__":
    run_main(main)
