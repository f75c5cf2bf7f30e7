"""The report's pictures: small SVGs of one panel each, so that they stay legible on a phone, and spectrograms.

    uri = as_svg(lambda axes: plot_curves(axes, {"synthio": (steps, losses)}, "loss", {}), 4.2, 2.8)

A picture is a data URI for <img>: in there nothing can run, whatever a label holds. Labels are plain text, never
mathematics ("$x$"). Text stays text, because the reader's browser has fonts for scripts that matplotlib has not.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

# of Wong's and Tol's palettes, whose colours colour-blind readers can tell apart
COLOURS = {"gold": "#E69F00", "kept": "#0072B2", "rejected": "#AA3377"}
MARKERS = {"gold": "o", "kept": "o", "rejected": "x"}
METHOD_COLOURS = ["#6B7280", "#0072B2", "#009E73", "#CC79A7", "#D55E00", "#E69F00"]
INK, GRID = "#24292F", "#D8DEE4"
STYLE: dict[Any, Any] = {  # matplotlib's stubs list every key by name
    "svg.fonttype": "none",
    "svg.hashsalt": "synthio",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
}
MAX_ROWS = 40  # classes that a figure shows
MAX_LETTERS = 22  # of a label in a figure
GOLDEN = 0.6180339887  # its multiples, modulo 1, spread dots evenly without chance
DYNAMIC_RANGE_DB = 70.0  # of a spectrogram, below its loudest point


def data_uri(kind: str, content: bytes) -> str:
    """A `data:` URI of a MIME type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def short(text: str) -> str:
    """A label as a figure shows it: cut, and without characters that XML does not know."""
    text = "".join(letter if letter.isprintable() else "�" for letter in text)
    return text if len(text) <= MAX_LETTERS else text[: MAX_LETTERS - 1] + "…"


def as_svg(plot: Callable, width_in: float, height_in: float) -> str:
    """Call `plot(axes)` and return the picture as a data URI. One inch is 96 pixels of the page."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # see the top
        # Figure without pyplot: pyplot keeps global state and may look for a display.
        figure = Figure((width_in, height_in), dpi=144, layout="constrained")
        plot(figure.subplots())
        out = io.BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return data_uri("image/svg+xml", out.getvalue())


def row_height(rows: int) -> float:
    """Height in inches of a figure with a row for each class."""
    return 0.9 + 0.24 * max(2, rows)


def name_rows(axes, names: Sequence[str]) -> None:
    """Class names down the side, the first at the top."""
    axes.set_yticks(range(len(names)), [short(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(False, axis="y")


def plot_scores(axes, rows: Sequence[tuple[str, float, float, float]], metric: str) -> None:
    """(name, value, low, high) of each method, in percent, as points with intervals."""
    for i, (_, value, low, high) in enumerate(rows):
        colour = METHOD_COLOURS[i % len(METHOD_COLOURS)]
        axes.plot([low, high], [i, i], color=colour, linewidth=2)
        axes.plot(value, i, "o", color=colour, markersize=7)
    name_rows(axes, [row[0] for row in rows])
    axes.set_xlabel(f"test {metric}, % (95 % interval)")


def plot_reliability(axes, curves: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Share of right answers over confidence; name -> bins (confidence, right, answers), the last one in front."""
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
    for colour, (name, bins) in zip(METHOD_COLOURS, curves.items(), strict=False):
        x, y, answers = (np.array([row[key] for row in bins], float) for key in ("confidence", "right", "answers"))
        axes.plot(x, y, color=colour, linewidth=1.2, label=name)
        axes.scatter(x, y, s=8 + 90 * answers / max(answers.sum(), 1), color=colour, zorder=3)
    axes.set(xlim=(0, 1), ylim=(-0.03, 1.03), xlabel="confidence", ylabel="share of right answers")
    axes.legend(loc="upper left")


def plot_confusion(axes, counts: np.ndarray, labels: Sequence[str]) -> None:
    """Rows are the true classes and sum to 100 %; numbers are counts, where there is room for them."""
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, interpolation="nearest", aspect="equal")
    axes.grid(False)
    size = 8 if len(labels) <= 20 else 6
    if len(labels) <= MAX_ROWS:
        names = [short(label) for label in labels]
        axes.set_xticks(range(len(labels)), names, rotation=90, fontsize=size)
        axes.set_yticks(range(len(labels)), names, fontsize=size)
    if len(labels) <= 20:
        for (i, j), count in np.ndenumerate(counts):
            if count:
                colour = "white" if share[i, j] > 0.55 else INK
                axes.text(j, i, str(count), ha="center", va="center", fontsize=size, color=colour)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")


def plot_gains(axes, labels: Sequence[str], gains: Sequence[float]) -> None:
    """Difference of F1 of each class, in points, as bars."""
    colours = [COLOURS["kept"] if gain >= 0 else COLOURS["rejected"] for gain in gains]
    axes.barh(range(len(gains)), gains, color=colours, height=0.7)
    axes.axvline(0, color=INK, linewidth=0.8)
    name_rows(axes, labels)
    axes.set_xlabel("gain in F1, points")


def plot_distribution(axes, scores: Mapping[str, Mapping[str, np.ndarray]], limits: Mapping[str, float], name: str):
    """Scores by class and kind, one dot a clip; a bar in each row is the threshold.

    Args:
        axes: where to draw.
        scores: class -> kind -> values.
        limits: class -> least score of a kept clip; a class without one gets no bar.
        name: of the score.
    """
    for row, (label, kinds) in enumerate(scores.items()):
        for kind, values in kinds.items():
            heights = row + 0.5 * ((np.arange(len(values)) * GOLDEN) % 1 - 0.5)
            axes.scatter(values, heights, s=14, c=COLOURS[kind], marker=MARKERS[kind], alpha=0.75, linewidths=1)
        if label in limits:
            axes.plot([limits[label]] * 2, [row - 0.45, row + 0.45], color=INK, linewidth=1.6)
    name_rows(axes, list(scores))
    axes.set_xlabel(name)
    seen = {kind for kinds in scores.values() for kind, values in kinds.items() if len(values)}
    handles = [legend_handle(kind) for kind in COLOURS if kind in seen]
    if limits:
        handles.append(legend_handle("threshold"))
    axes.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4, handletextpad=0.3)


def legend_handle(kind: str):
    """What stands in a legend for a kind of clip, or for the threshold."""
    from matplotlib.lines import Line2D

    if kind == "threshold":
        return Line2D([], [], color=INK, linewidth=1.6, label=kind)
    return Line2D([], [], color=COLOURS[kind], marker=MARKERS[kind], linestyle="", markersize=5, label=kind)


def plot_curves(
    axes,
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    name: str,
    best: Mapping[str, float | None],
    axis: str = "step",
) -> None:
    """A line for each method over the optimiser step, or over a probe's penalty; a ring at the one that was chosen."""
    for i, (method, (steps, values)) in enumerate(curves.items()):
        colour = METHOD_COLOURS[i % len(METHOD_COLOURS)]
        axes.plot(steps, values, color=colour, linewidth=1.5, label=short(method))
        chosen = np.flatnonzero(steps == best.get(method))
        axes.plot(steps[chosen], values[chosen], "o", color=colour, markerfacecolor="white", markersize=6)
    axes.set_xlabel("C, inverse strength of the penalty" if axis == "C" else axis)
    if axis == "C":
        axes.set_xscale("log")
    axes.set_title(name, loc="left")
    if len(curves) > 1:
        axes.legend()


def plot_noisy(axes, steps: np.ndarray, values: np.ndarray, name: str, chance: float) -> None:
    """A curve whose single steps are noisy: pale, with its running mean on top, and its value at the start, dashed."""
    width = max(1, len(values) // 10)
    padded = np.pad(values, (width // 2, width - 1 - width // 2), mode="edge")
    axes.axhline(chance, color=INK, linewidth=0.8, linestyle="--")
    axes.plot(steps, values, color=COLOURS["kept"], linewidth=0.8, alpha=0.35)
    axes.plot(steps, np.convolve(padded, np.full(width, 1 / width), mode="valid"), color=COLOURS["kept"], linewidth=1.6)
    axes.set_xlabel("step")
    axes.set_title(name, loc="left")


def plot_map(axes, points: np.ndarray, groups: Sequence[str], by_kind: bool, shares: Sequence[float]) -> None:
    """Points [N, 2] in the colours of their groups: kinds of clips, or at most ten labels."""
    import matplotlib

    palette = matplotlib.colormaps["tab10"]
    names = [kind for kind in COLOURS if kind in groups] if by_kind else sorted(set(groups))
    for i, name in enumerate(names):
        rows = np.array([group == name for group in groups])
        colour = COLOURS[name] if by_kind else palette(i)
        marker = MARKERS[name] if by_kind else "o"
        axes.scatter(*points[rows].T, s=16, color=colour, marker=marker, alpha=0.75, linewidths=1, label=short(name))
    axes.set_xlabel(f"component 1 ({100 * shares[0]:.0f} % of variance)")
    axes.set_ylabel(f"component 2 ({100 * shares[1]:.0f} %)")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, handletextpad=0.1, columnspacing=0.8)


def spectrogram_png(audio: np.ndarray, sample_rate: int, width: int = 300) -> str:
    """Log-mel spectrogram of a mono clip [1, T] as a data URI of a PNG with a palette; low notes lie at the bottom.

    The bands are those that the classifier hears (kaldi's, 16 kHz); 0 to -70 dB of the clip's own maximum.
    """
    import torch
    from matplotlib import colormaps
    from PIL import Image

    from synthio.audio import resample
    from synthio.models.fbank import SAMPLE_RATE, WINDOW, kaldi_fbank

    wave = resample(audio, sample_rate, SAMPLE_RATE)
    wave = np.pad(wave, ((0, 0), (0, max(0, WINDOW - wave.shape[1]))))
    bands = kaldi_fbank(torch.from_numpy(wave), 64)[0].numpy().T[::-1] * (10 / np.log(10))
    bands = bands[:, np.linspace(0, bands.shape[1] - 1, min(width, bands.shape[1])).round().astype(int)]
    level = np.clip((bands - bands.max()) / DYNAMIC_RANGE_DB + 1, 0, 1)
    picture = Image.fromarray((level * 63).round().astype(np.uint8), mode="P")
    picture.putpalette((colormaps["magma"](np.linspace(0, 1, 64))[:, :3] * 255).round().astype(np.uint8).tobytes())
    out = io.BytesIO()
    picture.save(out, format="PNG", optimize=True)
    return data_uri("image/png", out.getvalue())


def ogg(audio: np.ndarray, sample_rate: int, highest_rate: int = 24000) -> str:
    """A mono clip [1, T] as Ogg Vorbis, as a data URI."""
    import soundfile

    from synthio.audio import resample

    rate = min(sample_rate, highest_rate)
    out = io.BytesIO()
    soundfile.write(out, resample(audio, sample_rate, rate).T, rate, format="OGG", subtype="VORBIS")
    return data_uri("audio/ogg", out.getvalue())
