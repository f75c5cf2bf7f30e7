#!/usr/bin/env python3
"""Ask an exported classifier about a sound, without torch and without Synthio: numpy, soundfile, onnxruntime.

python classify_onnx.py classifier.onnx clip.wav
"""

import json
import sys

import onnxruntime
import soundfile


def main(model: str, path: str) -> None:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    said = {name: json.loads(value) for name, value in session.get_modelmeta().custom_metadata_map.items()}
    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    if rate != said["sample_rate"]:
        raise SystemExit(f"{path}: {rate} Hz; resample it to {said['sample_rate']} Hz")
    waveform = audio.mean(axis=1, dtype="float32")[None]  # [1, samples]
    (chances,) = session.run(["probabilities"], {"waveform": waveform})[0]
    for label, chance in sorted(zip(said["labels"], chances, strict=True), key=lambda pair: -pair[1]):
        print(f"{chance:.4f} {label}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
