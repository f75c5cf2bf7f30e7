#!/usr/bin/env python3
"""Write a run's classifier as one ONNX file that takes a waveform: for a phone, a browser or a recorder, without torch.

    .envs/onnx/bin/python extras/export_onnx.py --model W/classifier/synthio --output_file classifier.onnx \\
        --int8_file classifier.int8.onnx --test_csv mine/test.csv

The file holds the feature extraction, the networks (of a head those that it listens through) and the calibrated
probabilities. Input: `waveform`, float32 [batch, samples], mono, full scale 1, of any length, at the rate that the
metadata say. Output: `probabilities`, float32 [batch, labels]. The metadata are `labels`, `sample_rate` and
`multi_label`, as JSON. ONNX Runtime's answers are compared with the saved classifier's on sounds of 0.01 to 12 s; a
file that differs is not written. extras/classify_onnx.py shows how it is used.

--int8_file has the weights of the networks at 8 bits; what makes the features stays as it is, and so does a head. With
--test_csv the record says what that costs. Beside the file: <name>.json, the record.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from synthio.classification.options import Places
from synthio.cli import UserError, making_of, new_parser, quiet_libraries, run_main
from synthio.options import add_options, from_args

OPSET = 18
SECONDS = (0.01, 0.3, 1.0, 2.5, 5.0, 12.0)  # of the sounds that both are asked about
TOLERANCE = 1e-4  # of a probability
LARGEST_CONSTANT = 4096  # elements of what is computed when the file is written; larger ones are when it is loaded
INPUT, OUTPUT = "waveform", "probabilities"


def get_parser():
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--model", required=True, help="a run's classifier: its folder, or the model/ in it")
    add("--output_file", required=True, help="output: the ONNX file")
    add("--int8_file", default="", help="output: the same with weights of 8 bits")
    add("--test_csv", default="", help="CSV with path and label, for the accuracy of what is written")
    add_options(parser, Places)
    return parser


def check_libraries() -> None:
    """Refuse an environment that cannot export.

    Raises:
        UserError: a library is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"{error}; `{making_of('onnx')}` makes an environment that has it: call .envs/onnx/bin/python"
        ) from None


def export(network, path: Path, labels: Sequence[str], rate: int, multi_label: bool) -> None:
    """Write the network with its metadata."""
    import onnx
    import torch
    from onnxscript.optimizer import optimize

    sizes = {INPUT: {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("samples", min=1)}}
    with torch.inference_mode():
        program = torch.onnx.export(
            network,
            (torch.zeros(2, 3 * rate // 2),),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamic_shapes=sizes,
            dynamo=True,
            optimize=False,  # which would keep the places of all samples in all frames: megabytes
            verbose=False,
        )
    optimize(program.model, output_size_limit=LARGEST_CONSTANT)
    model = program.model_proto
    said = {"labels": list(labels), "sample_rate": rate, "multi_label": multi_label}
    onnx.helper.set_model_props(model, {name: json.dumps(value, ensure_ascii=False) for name, value in said.items()})
    onnx.checker.check_model(model)
    onnx.save(model, path)


def session(path: Path):
    """ONNX Runtime on one thread of the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def answers(runner, clips):
    """Probabilities [N, C] of clips, each [T]."""
    import numpy as np

    return np.concatenate([runner.run([OUTPUT], {INPUT: clip[None]})[0] for clip in clips])


def sounds(rate: int):
    """Noise, loud and quiet, and chirps of every length of `SECONDS`, each [T]."""
    import numpy as np

    rng, clips = np.random.default_rng(0), []
    for seconds in SECONDS:
        time_s = np.arange(round(seconds * rate)) / rate
        clips += [level * rng.uniform(-1, 1, len(time_s)) for level in (0.9, 1e-3)]
        clips.append(0.8 * np.sin(2 * np.pi * (200 + 900 * time_s) * time_s))
    return [clip.astype(np.float32) for clip in clips]


def saved_answers(classifier, clips):
    """What the saved classifier says of the same clips, each heard whole, at the highest of its rates."""
    import numpy as np

    from synthio.audio import resample
    from synthio.classification.windows import STEPS_PER_S, Span

    top = max(classifier.rates)

    def ask(clip):
        window = len(clip) * STEPS_PER_S // top + 1
        heard = {rate: resample(clip[None], top, rate)[0] for rate in classifier.rates}
        return classifier.score(Span(0, heard, [0], window))

    return np.concatenate([ask(clip) for clip in clips])


def quantize(path: Path, target: Path) -> None:
    """Weights of the networks' layers at 8 bits; what makes the features, and a head, stay in float64."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(path)
    del model.graph.value_info[:]  # the exporter leaves shapes of weights that it has turned since
    layers = ["MatMul", "Gemm"]
    quantize_dynamic(model, target, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=layers)


def score(paths: Sequence[str], truth, multi_label: bool, rate: int, runners) -> dict[str, float]:
    """Name -> accuracy (mAP of multi-label data) on some clips, whose labels are as `encode_labels` gives them."""
    from synthio.audio import read_audio
    from synthio.classification.metrics import accuracy, mean_average_precision

    clips = [read_audio(path, rate)[0][0] for path in paths]
    metric = mean_average_precision if multi_label else accuracy
    return {name: metric(truth, ask(clips)) for name, ask in runners.items()}


def write_checked(path: str | Path, make, clips, wanted) -> tuple[Any, float]:
    """(ONNX Runtime with what `make` wrote, the largest difference of its answers); a file that differs is not kept."""
    import numpy as np

    from synthio.files import atomic_path

    with atomic_path(path) as temporary:
        most = make(temporary)
        runner = session(temporary)
        difference = float(np.abs(answers(runner, clips) - wanted).max())
        if not difference <= most:
            raise UserError(
                f"ONNX Runtime differs by {difference:.2g} from the saved classifier; {path} is not written"
            )
    return runner, difference


def read_words(args):
    """The table of --test_csv, or None: what is wrong with it, and with the names, is told before minutes of export.

    Raises:
        UserError: as `read_manifest`; both files have one name.
    """
    from synthio.manifest import read_manifest

    if args.int8_file and Path(args.int8_file).absolute() == Path(args.output_file).absolute():
        raise UserError("--int8_file is --output_file; name another file")
    return read_manifest(args.test_csv) if args.test_csv else None


def main() -> int:
    args = get_parser().parse_args()
    table = read_words(args)
    check_libraries()
    quiet_libraries()
    logging.disable(logging.WARNING)  # the exporter's and the quantizer's advice to their developers
    from synthio.classification.labels import encode_labels
    from synthio.classification.saved import load_classifier
    from synthio.files import write_json
    from synthio.manifest import LABEL, PATH, versions
    from synthio.portable.networks import portable, refuse_foreign

    models = from_args(Places, args).by_kind
    refuse_foreign(args.model, models)
    classifier = load_classifier(args.model, models)
    network = portable(classifier, args.model)
    labels, rate, multi_label = classifier.labels, network.sample_rate, classifier.multi_label
    truth = None if table is None else encode_labels(table[LABEL], labels, args.test_csv, multi_label)
    clips = sounds(rate)
    wanted = saved_answers(classifier, clips)

    def make(path: Path) -> float:
        export(network, path, labels, rate, multi_label)
        return TOLERANCE

    def make_small(path: Path) -> float:
        quantize(Path(args.output_file), path)
        return 1.0  # what it costs is for the record

    record: dict[str, Any] = {"opset": OPSET, "labels": labels, "sample_rate": rate, "multi_label": multi_label}
    runner, record["largest_difference"] = write_checked(args.output_file, make, clips, wanted)
    runners = {"saved": lambda clips: saved_answers(classifier, clips), "float32": lambda clips: answers(runner, clips)}
    if args.int8_file:
        small, record["int8_difference"] = write_checked(args.int8_file, make_small, clips, wanted)
        runners["int8"] = lambda clips: answers(small, clips)
    if table is not None:
        record["mAP" if multi_label else "accuracy"] = score(table[PATH], truth, multi_label, rate, runners)
    files = [Path(name) for name in (args.output_file, args.int8_file) if name]
    record |= {"bytes": {path.name: path.stat().st_size for path in files}, "options": vars(args)}
    write_json(Path(args.output_file).with_suffix(".json"), record | {"versions": versions()})
    print(json.dumps({name: record[name] for name in record if name not in ("labels", "options")}))
    return 0


if __name__ == "__main__":
    run_main(main)
