"""What the filter, and the fine-tuning of its CLAP, can be told."""

from __future__ import annotations

from dataclasses import dataclass

from synthio.cli import AUTO, UserError
from synthio.options import NONZERO, Need, Seed, check_needs, option

MIXES_RANKS = Need(NONZERO, "threshold_kind", "rank", "it mixes ranks")


@dataclass(frozen=True)
class FilterOptions:
    """Which generated clips are kept."""

    threshold: float | str = option(
        0.85,
        "least sigmoid(scale * cosine) of a kept clip, of PeAudio a probability; 0 keeps all; auto: like real clips "
        "(paper: 0.85)",
        low=0,
        high=1,
        words=(AUTO,),
        noun="probability",
        driver="clap_threshold",
        need=Need(AUTO, "threshold_kind", "absolute", "it is an absolute threshold"),
    )
    threshold_kind: str = option(
        "absolute",
        "absolute: clap_threshold for all classes; class_quantile (ties included) and rank (exactly): the best "
        "keep_percent of each class",
        choices=("absolute", "class_quantile", "rank"),
        driver="threshold_kind",
    )
    auto_quantile: float = option(
        0.1, "share of the real clips that a threshold of auto would drop", low=0, high=1, driver="auto_quantile"
    )
    keep_percent: float = option(
        70.0,
        "share of each class that is kept by threshold_kind class_quantile and rank",
        low=1,
        high=100,
        driver="keep_percent",
    )
    classifier: str = option(
        "", "output folder of ast/train.py on gold clips alone; empty: CLAP alone", need=MIXES_RANKS
    )
    classifier_weight: float = option(
        0.0,
        "share of a gold-only classifier in the rank of a clip, beside CLAP; 0: CLAP alone",
        low=0,
        high=1,
        driver="classifier_weight",
        need=MIXES_RANKS,
    )
    gold_csv: str = option("", "gold clips, for near-duplicates; empty: none")
    valid_csv: str = option("", "validation clips, for near-duplicates and a threshold of auto; empty: none")
    test_csv: str = option("", "test clips, for near-duplicates alone; their labels are not read; empty: none")
    duplicate_cosine: float = option(
        0.9,
        "clips more like a gold, validation or test clip than this cosine are dropped as copies; 1: none",
        low=0,
        high=1,
        driver="duplicate_cosine",
    )
    drop_repeats: bool = option(False, "drop copies of better synthetic clips too", driver="drop_repeats")
    earlier_csvs: tuple[str, ...] = option((), "clips kept in earlier rounds, for drop_repeats")
    max_clipped: float = option(
        0.01, "largest share of a clip's samples at full scale", low=0, high=1, driver="max_clipped"
    )
    batch_size: int = option(16, "clips embedded at once", low=1)

    def check(self) -> None:
        """Refuse options that would be passed over.

        Raises:
            UserError: there are such.
        """
        check_needs(self)
        if self.threshold == AUTO and not self.valid_csv:
            raise UserError("--threshold auto takes the threshold from validation clips; give --valid_csv")
        if self.earlier_csvs and not self.drop_repeats:
            raise UserError("--earlier_csvs goes with --drop_repeats true")


@dataclass(frozen=True)
class FinetuneOptions(Seed):
    """How a CLAP is fine-tuned on the gold clips."""

    num_steps: int = option(
        200,
        "optimiser steps of the fine-tuning of CLAP, at most; validation clips end it earlier",
        low=1,
        driver="finetune_num_steps",
    )
    batch_size: int = option(16, "clips in a step", low=2)
    learning_rate: float = option(
        1e-5, "highest learning rate of the fine-tuning of CLAP", low=0, driver="finetune_learning_rate"
    )
    weight_decay: float = option(0.01, "weight decay of AdamW", low=0)
    eval_every: int = option(10, "steps between evaluations", low=1)
    patience: int = option(5, "evaluations without a gain that end the training", low=1)
