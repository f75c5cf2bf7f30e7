"""What the classifiers' scripts can be told."""

from __future__ import annotations

from dataclasses import dataclass

from synthio.cli import AUTO
from synthio.options import Device, MultiLabel, Seed, option

ALPHAS = (0.25, 0.5, 1.0)  # of the trained weights, for wise_ft_alpha "auto"
NO_AUGMENT = "none"
WAVEFORM_AUGMENTS = ("noise", "pitch", "speed", "chain")  # functions of synthio.classification.augment
HEADS_ALONE = ("seed", "multi_label", "synthetic_weight")  # fields of Recipe that frozen models have a use for


@dataclass(frozen=True)
class Scoring(MultiLabel, Seed):
    """How what a classifier says of the test clips is scored; the seed is that of the intervals' draws."""


@dataclass(frozen=True)
class Recipe(Scoring):
    """How to train a classifier. `settle_weights` makes a number of a `synthetic_weight` that is "auto"."""

    num_steps: int = option(
        150,
        "optimiser steps, as many with synthetic clips as without",
        low=1,
        driver="ast_num_steps",
        card="optimiser steps",
    )
    epochs: float = option(
        0.0, "passes over the training clips (paper: 50); 0: ast_num_steps counts", low=0, driver="ast_epochs"
    )
    patience: int = option(
        8,
        "evaluations of the classifier in a row, 20 of which make the whole training, without a lower validation loss, "
        "after which it ends; 0: it never ends before its last step (paper)",
        low=0,
        driver="ast_patience",
        card="evaluations without a gain that end the training",
    )
    learning_rate: float = option(
        3e-4,
        "highest learning rate of the classifier (paper, for a model 80 times larger: 1e-5)",
        low=0,
        driver="ast_learning_rate",
        card="highest learning rate",
    )
    batch_size: int = option(
        16, "clips in a step of the classifier (paper: 48)", low=1, driver="ast_batch_size", card="clips a step"
    )
    precision: str = option(
        AUTO,
        "what the classifier multiplies in when it is trained; auto: bfloat16 on a GPU that has it, else float32. It "
        "is scored in float32",
        choices=(AUTO, "float32", "bfloat16"),
        driver="ast_precision",
    )
    optimizer: str = option(
        "adamw",
        "optimiser of the classifier; adam (paper) has the weight decay in the gradient",
        choices=("adamw", "adam"),
        driver="ast_optimizer",
        card="optimiser",
    )
    weight_decay: float = option(5e-7, "weight decay (AST: 5e-7)", low=0, card="weight decay")
    schedule: str = option(
        "cosine",
        "how the learning rate of the classifier goes. cosine: it rises in the first tenth of the steps and falls to "
        "0; step: it falls by 15 % after each epoch from the fifth on (paper)",
        choices=("cosine", "step"),
        driver="ast_schedule",
        card="schedule of the learning rate",
    )
    warmup_fraction: float = option(
        0.1, "for schedule=cosine, share of the steps in which the learning rate rises", low=0, high=1
    )
    head_init: str = option(
        "names",
        "where the new head starts. names: at a linear probe and what the pretrained head says, where that has names "
        "for every label; probe: at the probe alone; random (paper)",
        choices=("names", "probe", "random"),
        driver="ast_head_init",
    )
    wise_ft_alpha: float | str = option(
        AUTO,
        "share of the trained weights in the classifier, the rest being those at the start; auto: what is best on the "
        "validation clips; 1: the trained ones alone (paper, and always where the head starts at random)",
        low=0,
        high=1,
        words=(AUTO,),
        driver="ast_wise_ft_alpha",
        card="share of the trained weights (WiSE-FT)",
    )
    class_weights: bool = option(False, "each class has the same weight in the loss", driver="ast_class_weights")
    synthetic_weight: float | str = option(
        AUTO,
        "how often a synthetic clip comes for one time that a gold one does; auto: what is best on the validation "
        "clips, 0 where they do not help there (paper: 1)",
        low=0,
        words=(AUTO,),
        driver="synthetic_weight",
        card="synthetic clips for a real one",
    )
    waveform_augment: str = option(
        NO_AUGMENT,
        "changes each clip anew at each step; pitch keeps the tempo (the paper's), speed changes both by resampling; "
        "chain: gain, noise, pitch, shift, filter",
        choices=(NO_AUGMENT, *WAVEFORM_AUGMENTS),
        driver="ast_waveform_augment",
        card="waveform augmentation",
    )
    spec_augment: bool = option(
        False,
        "mask a band of frequencies and a stretch of time, at each step (SpecAugment); of AST alone",
        driver="ast_spec_augment",
        card="SpecAugment",
    )
    mixup: float = option(
        0.0, "alpha of mixup's Beta distribution; 0: no mixup", low=0, driver="ast_mixup", card="mixup alpha"
    )
    supcon: bool = option(
        False,
        "a contrastive loss beside the classifier's cross-entropy; in a run also prompts that go beyond each label",
        driver="supcon",
    )
    supcon_weight: float = option(
        1.0,
        "for supcon=true, weight of the contrastive loss; cross-entropy has 1",
        low=0,
        driver="supcon_weight",
        card="SupCon weight",
    )
    supcon_temperature: float = option(
        0.1,
        "for supcon=true, temperature of the contrastive loss (its paper: 0.1)",
        low=1e-3,
        driver="supcon_temperature",
    )
    supcon_epochs: float = option(
        0.0,
        "for supcon=true, passes over the training clips by the contrastive loss alone, after which cross-entropy "
        "alone trains (paper: 100); 0: both losses share the steps",
        low=0,
        driver="supcon_epochs",
        card="SupCon epochs before cross-entropy",
    )
    input_length: str = option(
        "percentile",
        "how long the input of the classifier is: the 95th percentile of the real training clips, or their mean, which "
        "cuts the longer half (paper)",
        choices=("percentile", "mean"),
        driver="ast_input_length",
    )
    max_length_s: float = option(0.0, "input length in s; 0: input_length says it", low=0)
    eval_every: int = option(0, "steps between evaluations on the validation clips; 0: 20 evaluations in all", low=0)

    cross_entropy: bool = True  # is in the loss; the first stage of two has the contrastive loss alone

    @property
    def alphas(self) -> tuple[float, ...]:
        """Shares of the trained weights that are tried at each evaluation."""
        return ALPHAS if self.wise_ft_alpha == AUTO else (float(self.wise_ft_alpha),)

    def steps_of(self, epochs: float, clips: int) -> int:
        """How many steps make so many passes over so many clips; at least one."""
        return max(1, round(epochs * clips / self.batch_size))


@dataclass(frozen=True)
class TakingOver:
    """What a training may have of another one."""

    finished_folder: str = option(
        "",
        "output folder of another training. Where the clips that come at all, the recipe and the model are the same, "
        "its weights are taken: training would give the same; empty: none",
        inert=True,
    )


@dataclass(frozen=True)
class Places:
    """Where the models of a head are now."""

    ast_model: str = option("", "for a head, where the AST is that it hears through; empty: where it was")
    clap_model: str = option("", "for a head, where the CLAP is that it hears through; empty: where it was")

    @property
    def by_kind(self) -> dict[str, str]:
        """As `load_classifier` takes them."""
        return {"ast": self.ast_model, "clap": self.clap_model}


@dataclass(frozen=True)
class Listening(Device):
    """How a saved classifier listens to recordings."""

    precision: float = option(
        0.9,
        "share of right answers that is wanted of each label on the validation clips: its threshold is the lowest that "
        "has it",
        low=0,
        high=1,
    )
    threshold: float | str = option(
        AUTO,
        "probability from which on a label is called; auto: for each label the one that has the precision",
        low=0,
        high=1,
        words=(AUTO,),
    )
    overlap: float = option(0.5, "share of a window that the next one hears again", low=0, high=0.95)
    window_s: float = option(
        0.0,
        "for a head on frozen models, how much it hears at once, in s; 0: as long as its clips were",
        low=0,
        high=60,
    )
    merge_gap_s: float = option(0.0, "events of a label that are this near, in s, are one", low=0)
    on_bad_audio: str = option(
        "drop",
        "what to do with a recording that cannot be read to its end; drops are listed in a file",
        choices=("stop", "drop"),
    )
