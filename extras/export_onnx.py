#!/usr/bin/env python3
"""Write a run's AST as one ONNX file that takes a waveform: for a phone, a browser or a recorder, without torch.

    .envs/onnx/bin/python extras/export_onnx.py --model W/classifier/synthio_ast --output_file classifier.onnx \\
        --int8_file classifier.int8.onnx --test_csv mine/test.csv

The file holds the feature extraction, the network and the calibrated probabilities. Input: `waveform`, float32
[batch, samples], mono, 16 kHz, full scale 1, of any length. Output: `probabilities`, float32 [batch, labels]. Its
metadata say `labels`, `sample_rate` and `multi_label`, as JSON. ONNX Runtime's answers are compared with the saved
model's on sounds of 0.3 to 12 s; a file that differs is not written. extras/classify_onnx.py shows how it is used.

--int8_file has the weights of the network at 8 bits; what makes the features stays as it is. With --test_csv the record
says what that costs. Beside the file: <name>.json, the record.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from synthio.cli import UserError, making_of, new_parser, quiet_libraries, run_main
from synthio.models.classifiers import AST, kind_of

OPSET = 18
SECONDS = (0.01, 0.3, 0.7, 1.5, 3.2, 5.0, 12.0)  # of the sounds that both are asked about
TOLERANCE = 1e-4  # of a probability
INPUT, OUTPUT = "waveform", "probabilities"


def get_parser():
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--model", required=True, help="output folder of ast/train.py, or the model/ in it")
    add("--output_file", required=True, help="output: the ONNX file")
    add("--int8_file", default="", help="output: the same with weights of 8 bits")
    add("--test_csv", default="", help="CSV with path and label, for the accuracy of what is written")
    return parser


def check_kind(model: str) -> None:
    """Refuse a network whose sound goes through a feature extractor in Python first.

    Raises:
        UserError: it is one.
    """
    folder = Path(model) / "model" if (Path(model) / "model").is_dir() else Path(model)
    kind = kind_of(str(folder))
    if kind not in ("", AST):
        raise UserError(f"{model}: a '{kind}', whose feature extractor is no part of the network; only AST is exported")


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
            verbose=False,
        )
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
    """What the saved model says of the same clips, as ast/train.py asks it."""
    import numpy as np

    from synthio.classification.windows import Span

    (rate,) = classifier.rates
    return np.concatenate([classifier.score(Span(0, {rate: clip}, [0], classifier.window)) for clip in clips])


def quantize(path: Path, target: Path) -> None:
    """Weights of the network's layers at 8 bits; what makes the features stays in float64."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(path)
    del model.graph.value_info[:]  # the exporter leaves shapes of weights that it has turned since
    layers = ["MatMul", "Gemm"]
    quantize_dynamic(model, target, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=layers)


def score(csv: str, labels: Sequence[str], multi_label: bool, rate: int, runners) -> dict[str, float]:
    """Name -> accuracy (mAP of multi-label data) on the clips of a CSV."""
    from synthio.audio import read_audio
    from synthio.classification.labels import encode_labels
    from synthio.classification.metrics import accuracy, mean_average_precision
    from synthio.manifest import LABEL, PATH, read_manifest

    table = read_manifest(csv)
    truth = encode_labels(table[LABEL], labels, csv, multi_label)
    clips = [read_audio(path, rate)[0][0] for path in table[PATH]]
    metric = mean_average_precision if multi_label else accuracy
    return {name: metric(truth, ask(clips)) for name, ask in runners.items()}


def main() -> int:
    args = get_parser().parse_args()
    check_kind(args.model)
    check_libraries()
    quiet_libraries()
    logging.disable(logging.WARNING)  # the exporter's and the quantizer's advice to their developers
    import numpy as np

    from synthio.classification.portable import PortableAst
    from synthio.classification.saved import AstClassifier, load_classifier
    from synthio.files import atomic_path, write_json
    from synthio.manifest import versions

    classifier = load_classifier(args.model)
    if not isinstance(classifier, AstClassifier):
        raise UserError(f"{args.model}: a head on frozen models, not an AST; give the run's classifier/synthio_ast")
    (rate,), labels, multi_label = classifier.rates, classifier.labels, classifier.multi_label
    network = PortableAst(classifier.model, classifier.norm, multi_label).eval()
    clips = sounds(rate)
    wanted = saved_answers(classifier, clips)
    runners = {"saved": lambda clips: saved_answers(classifier, clips)}
    record = {"opset": OPSET, "labels": labels, "sample_rate": rate, "multi_label": multi_label}
    with atomic_path(args.output_file) as temporary:
        export(network, temporary, labels, rate, multi_label)
        runner = session(temporary)
        record["largest_difference"] = float(np.abs(answers(runner, clips) - wanted).max())
        if not record["largest_difference"] <= TOLERANCE:
            raise UserError(f"ONNX Runtime differs by {record['largest_difference']:.2g} from the saved model")
    runners["float32"] = lambda clips: answers(runner, clips)
    if args.int8_file:
        with atomic_path(args.int8_file) as temporary:
            quantize(Path(args.output_file), temporary)
            small = session(temporary)
        record["int8_difference"] = float(np.abs(answers(small, clips) - wanted).max())
        runners["int8"] = lambda clips: answers(small, clips)
    if args.test_csv:
        record["mAP" if multi_label else "accuracy"] = score(args.test_csv, labels, multi_label, rate, runners)
    files = [Path(name) for name in (args.output_file, args.int8_file) if name]
    record |= {"bytes": {path.name: path.stat().st_size for path in files}, "options": vars(args)}
    write_json(Path(args.output_file).with_suffix(".json"), record | {"versions": versions()})
    print(json.dumps({name: record[name] for name in record if name not in ("labels", "options")}))
    return 0


if __name__ == "__main__":
    run_main(main)
