"""Peak memory of stages 4 and 6, computed from the sizes of the model: what a GPU must have, and what to change.

    stage 4   weights, moments and copies of what is trained, and the largest of
              the encoding of one clip; the activations that a step keeps; the gradients of all that is trained
    stage 6   weights, and the larger of a batch in the transformer and one clip in the decoder

Encoding and decoding take as many clips at once as there is room for, so one clip decides. Activations are counted in
units of rows x tokens x width, `Costs` of them a layer: the tensors that torch keeps for the gradients, with attention
as one kernel that keeps no matrix of tokens x tokens. Tests hold the sums against what small models of the real
libraries keep alive at once, on a CPU. A GPU adds its context and libraries (`CUDA_GB`, a usual value) and what its
allocator cannot reuse; without a GPU Python and its libraries count (`PYTHON_GB`), and what reads texts stays beside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from synthio.cli import AUTO
from synthio.pipeline.sizes import Sizes

CUDA_GB = 0.5
PYTHON_GB = 0.7  # of the libraries in memory, where there is no GPU whose memory counts
GB = 1e9
LORA_RANK, PREFIX_TOKENS = 16, 20  # defaults of `PreferenceOptions`, which the driver leaves
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
# Of Oobleck, in units of a clip's samples x channels: the input and output of a residual unit, and Snake's terms.
CODER = 5.0
NORMED = 2  # weight_norm keeps the weights that it computed beside those that it computed them from


@dataclass(frozen=True)
class Costs:
    """Of one layer of a transformer, in units of rows x tokens x width.

    Attributes:
        kept: what is kept for the gradients, by what is trained.
        attended: the same for each token that is attended to, by what is trained.
        copied: of a LoRA in half precision, of which peft keeps each input in float32, too.
        forward: most that is alive at once in a pass without gradients.
        backward: most that the gradients of activations add.
        lora: numbers of a LoRA on every projection, in units of rank x width and of rank x attended width: each
            projection has r (in + out).
    """

    kept: Mapping[str, float]
    attended: Mapping[str, float]
    copied: float
    forward: float
    backward: float
    lora: tuple[int, int]


COSTS = {
    # Three normed inputs; queries, keys, values and result 4, and queries and result of cross-attention 2; 12 in SwiGLU
    # of four times the width. LoRA keeps two inputs of its projections, all weights a third and SwiGLU's result.
    "open": Costs(
        {"lora": 24.0, "prefix": 23.3, "all": 29.0}, {"lora": 2.2, "prefix": 2.0, "all": 2.4}, 10.3, 20.3, 12.5, (12, 4)
    ),
    # Differential attention has two sets of queries and keys, and each layer is scaled and shifted.
    "three": Costs(
        {"lora": 36.5, "prefix": 47.9, "all": 54.6}, {"lora": 5.3, "prefix": 5.0, "all": 7.8}, 8.0, 20.5, 13.3, (17, 0)
    ),
}


@dataclass(frozen=True)
class Alignment:
    """What stage 4 does: see `PreferenceOptions` for the fields of the same name.

    frames: latent frames; sides: clips of a pair that gradients go through; goes_on: from an earlier adapter.
    """

    train: str
    batch_size: int
    frames: int
    gradient_checkpointing: bool = False
    bytes: int = 4
    sides: int = 2
    gradient_accumulation: int = 1
    goes_on: bool = False
    ema: bool = False


@dataclass(frozen=True)
class Generation:
    """What stage 6 does.

    batch_size: clips at once; passes: 2 with guidance; bytes: of a number of the transformer.
    """

    batch_size: int
    frames: int
    passes: int = 2
    bytes: int = 2


def trained_parameters(sizes: Sizes, train: str) -> int:
    """How many numbers are trained."""
    width, context = sizes.width, sizes.context
    if train == "all":
        return sizes.parameters
    if train == "prefix":
        return sizes.layers * PREFIX_TOKENS * (width + context)
    own, attended = COSTS[sizes.family].lora
    return sizes.layers * LORA_RANK * (own * width + attended * context)


def activations(sizes: Sizes, work: Alignment) -> tuple[float, float]:
    """Bytes of activations (at the start of the gradients, at their end)."""
    costs, tokens = COSTS[sizes.family], work.frames + sizes.extra
    unit = work.batch_size * work.sides * sizes.width * work.bytes
    kept = costs.kept[work.train] + (costs.copied if work.train == "lora" and work.bytes < 4 else 0)
    layer = unit * (kept * tokens + costs.attended[work.train] * sizes.attended)
    backward = unit * tokens * costs.backward
    if work.gradient_checkpointing:
        inputs = unit * tokens * sizes.layers
        return inputs + layer + backward, layer + backward
    return layer * sizes.layers + backward, layer + backward


def coding(sizes: Sizes, frames: int, channels: int, number: int) -> float:
    """Bytes that one clip takes in the autoencoder."""
    return CODER * channels * frames * sizes.hop * number


def alignment_gb(sizes: Sizes, work: Alignment) -> dict[str, float]:
    """The parts of stage 4's peak, in GB."""
    trained = trained_parameters(sizes, work.train)
    moments = 4 * trained * (2 + (work.train == "all" or work.goes_on) + work.ema)
    weights = sizes.parameters * (4 if sizes.is_exact else work.bytes) + (0 if work.train == "all" else 4 * trained)
    first, last = activations(sizes, work)
    step = max(first, last + 4 * trained, 2 * 4 * trained)  # AdamW has a copy of the gradients' size for a moment
    number = 4 if sizes.is_exact else work.bytes
    encoders = 4 * sizes.text_parameters + number * NORMED * sizes.sound_parameters
    encoding = encoders + coding(sizes, work.frames, sizes.channels[0], number)
    parts = {"weights": weights, "activations and gradients": step, "moments and copies": moments}
    if encoding > step + moments:
        parts = {"weights": weights, "encoding of one clip": encoding}
    return {name: size / GB for name, size in parts.items()}


def generation_gb(sizes: Sizes, work: Generation) -> dict[str, float]:
    """The parts of stage 6's peak, in GB."""
    number = 4 if sizes.is_exact else work.bytes
    weights = sizes.parameters * number + NORMED * sizes.sound_parameters * number
    tokens = work.frames + sizes.extra
    batch = work.batch_size * work.passes * tokens * sizes.width * work.bytes * COSTS[sizes.family].forward
    clip = coding(sizes, work.frames, sizes.channels[1], number)
    parts = {"weights": weights, "batch": batch} if batch > clip else {"weights": weights, "decoding of one clip": clip}
    return {name: size / GB for name, size in parts.items()}


# ---- what a run asks for


def frames_for(sizes: Sizes, options: Mapping[str, str], longest_s: float | None) -> int:
    """Latent frames of a run; `longest_s`: of the training clips, None: not known, so the model's own."""
    if longest_s is None:
        return sizes.grid.frames
    if sizes.is_variable:
        return sizes.grid.taken(sizes.grid.filled(longest_s))
    return sizes.grid.chosen(options.get("--latent_seconds", AUTO), longest_s)


def alignment_of(sizes: Sizes, options: Mapping[str, str], longest_s: float | None) -> Alignment:
    """The work of stage 4 by the words of its step."""
    asked = {"auto": "float32", "float16": "bfloat16"}.get(options["--dtype"], options["--dtype"])
    alone = options["--loss"] == "sft"
    anchored = not alone and float(options["--winner_weight"]) > 0 and options["--codec_match"] == "true"
    return Alignment(
        options["--train"],
        int(options["--batch_size"]),
        frames_for(sizes, options, longest_s),
        options["--gradient_checkpointing"] == "true",
        BYTES[asked],
        1 if alone else 2 + anchored,
        int(options["--gradient_accumulation"]),
        "--init_adapter" in options,
        float(options["--ema_decay"]) > 0,
    )


def generation_of(sizes: Sizes, options: Mapping[str, str], longest_s: float | None, on_gpu: bool) -> Generation:
    """The work of stage 6 by the words of its step."""
    half = on_gpu and not sizes.is_small
    asked = {"auto": "float16" if half else "float32"}.get(options["--dtype"], options["--dtype"])
    scale = float(options["--cfg_scale"])
    passes = 1 if scale == 1 or (scale == 0 and sizes.is_distilled) else 2
    return Generation(int(options["--batch_size"]), frames_for(sizes, options, longest_s), passes, BYTES[asked])


# ---- what to change


def cheaper_alignments(work: Alignment) -> Iterator[tuple[str, Alignment]]:
    """Settings that need less and less, each with the words that ask for it; the steps see as many pairs as before."""
    again = replace(work, gradient_checkpointing=True)
    if not work.gradient_checkpointing:
        yield "dpo_gradient_checkpointing=true", again
    words = "" if work.gradient_checkpointing else "dpo_gradient_checkpointing=true "
    pairs, size = work.batch_size * work.gradient_accumulation, work.batch_size
    while size > 1:
        size //= 2
        words_ = f"{words}dpo_batch_size={size} dpo_accumulation={-(-pairs // size)}"
        yield words_, replace(again, batch_size=size)
    if work.train != "all" and work.bytes > 2:
        smallest = f"dpo_batch_size=1 dpo_accumulation={pairs} " if work.batch_size > 1 else ""
        yield f"{words}{smallest}dtype=bfloat16", replace(again, batch_size=1, bytes=2)


def cheaper_generations(work: Generation) -> Iterator[tuple[str, Generation]]:
    """Settings that need less and less, each with the words that ask for it."""
    size = work.batch_size
    while size > 1:
        size //= 2
        yield f"generate_batch_size={size}", replace(work, batch_size=size)
    if work.bytes > 2:
        yield "generate_batch_size=1 dtype=float16", replace(work, batch_size=1, bytes=2)


@dataclass(frozen=True)
class Peak:
    """Of a stage.

    Attributes:
        words: the settings that it comes with; "": those of the run.
        parts: name -> GB.
        what: how much is worked on at once.
        gb: their sum.
    """

    words: str
    parts: Mapping[str, float]
    what: str
    gb: float

    def text(self) -> str:
        """One line."""
        named = ", ".join(f"{name} {gb:.1f}" for name, gb in self.parts.items() if gb >= 0.05)
        return f"{self.gb:.1f} GB for {self.what}" + (f" ({named})" if named else "")


def peaks(
    stage: int, sizes: Sizes, options: Mapping[str, str], longest_s: float | None, on_gpu: bool
) -> Iterator[Peak]:
    """What a step of stage 4 or 6 needs, then what it would with settings that need less and less.

    Args:
        stage: 4 or 6.
        sizes: of the model.
        options: of the step's command.
        longest_s: of the training clips; None: not known.
        on_gpu: whether it runs on one.
    """
    rest_gb = CUDA_GB if on_gpu else PYTHON_GB
    length = f"of latents of {frames_for(sizes, options, longest_s) * sizes.hop_s:.1f} s"
    if stage == 4:
        work = alignment_of(sizes, options, longest_s)
        for words, one in (("", work), *cheaper_alignments(work)):
            parts = alignment_gb(sizes, one)
            yield Peak(words, parts, f"{one.batch_size} pairs {length}", sum(parts.values()) + rest_gb)
        return
    batch = generation_of(sizes, options, longest_s, on_gpu)
    for words, several in (("", batch), *cheaper_generations(batch)):
        parts = generation_gb(sizes, several)
        if not on_gpu:  # else it leaves the GPU while clips are sampled
            parts |= {"text encoder": 4 * sizes.text_parameters / GB}
        yield Peak(words, parts, f"{several.batch_size} clips {length}", sum(parts.values()) + rest_gb)
