#!/usr/bin/env python3
"""Find the sounds that a run's classifier knows in recordings of any length.

    python listen.py --model W/classifier/synthio --input recordings/ --output events.csv

Each recording is heard in windows that overlap, as long as the clips of the training were; memory does not grow with
its length. A window has a label from that label's threshold on: the lowest that had the wanted --precision on the
validation clips. Neighbours of one label are one event.

Outputs: events.csv (path, start, end, label, probability; times in s), events.json (options, thresholds, counts),
events.dropped.csv (recordings that cannot be read), with --audacity and --raven a file for each recording. What the
classifier said is kept in --cache_folder, so that the same command goes on after a stop, listens to new recordings
alone, and takes no time for another precision.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from synthio.classification.options import Listening, Places
from synthio.cli import AUTO, UserError, new_parser, pick_device, progress, quiet_libraries, run_main, set_threads
from synthio.options import add_options, from_args

TELL_EVERY_S = 20.0


def get_parser():
    parser = new_parser(__doc__)
    add = parser.add_argument
    add("--model", required=True, help="a run's classifier: its folder, or the model/ in it")
    add("--input", nargs="+", required=True, metavar="PATH", help="sound files, and folders with sound files")
    add("--output", required=True, help="output: CSV of the events")
    add("--audacity", default="", metavar="FOLDER", help="output: a label track of Audacity for each recording")
    add("--raven", default="", metavar="FOLDER", help="output: a selection table of Raven for each recording")
    add("--cache_folder", default="", help="keeps what was heard; empty: <output>_heard beside the output")
    add_options(parser, Places)
    add_options(parser, Listening)
    return parser


def thresholds_of(classifier, options: Listening, model: str):
    """Label -> `Threshold`; says which labels do not have the precision.

    Raises:
        UserError: the classifier has no operating points, and no threshold is given.
    """
    from synthio.classification.operating import Threshold, choose_thresholds

    if options.threshold != AUTO:
        return {label: Threshold(float(options.threshold)) for label in classifier.labels}
    if classifier.points is None:
        raise UserError(f"{model}: does not say how sure it is (no listening.json); give a --threshold, such as 0.8")
    chosen = choose_thresholds(classifier.points, options.precision)
    for label, one in chosen.items():
        if label in classifier.ignored:
            continue
        if one.precision is None:
            print(f"{label}: no validation clip was rightly called so; its threshold is .5", file=sys.stderr)
        elif one.precision < options.precision:
            print(
                f"{label}: no threshold has a precision of {options.precision:g} on the validation clips; taken is "
                f"{one.probability:.3f} with {one.precision:.2f}",
                file=sys.stderr,
            )
    return chosen


def narrator(name: str):
    """What tells of a long recording, every 20 s, how much of it was heard."""
    started = last = time.monotonic()

    def tell(heard_s: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= TELL_EVERY_S:
            last = now
            rate = heard_s / (now - started)
            print(f"{name}: {heard_s / 60:.0f} min heard, {rate:.0f} x real time", file=sys.stderr, flush=True)

    return tell


def listen_to(recordings, classifier, options: Listening, cache_folder):
    """([(recording, what was heard)], [(recording, why it was dropped)], seconds of audio that were listened to).

    Raises:
        UserError: a recording cannot be read, and that is to stop.
    """
    from synthio.audio import BadAudio
    from synthio.classification.events import hear_once, hop_of

    hop, found, dropped, listened_s = hop_of(classifier.window, options.overlap), [], [], 0.0
    for recording in progress(recordings, "listening: recordings"):
        try:
            heard, is_new = hear_once(recording.path, classifier, hop, cache_folder, narrator(recording.name))
        except BadAudio as error:
            if options.on_bad_audio == "stop":
                raise UserError(f"{recording.path}: {error}; repair or remove it, or set --on_bad_audio drop") from None
            print(f"dropped: {recording.path}: {error}", file=sys.stderr, flush=True)
            dropped.append((recording, str(error)))
            continue
        found.append((recording, heard))
        listened_s += heard.seconds if is_new else 0.0
    return found, dropped, listened_s


def write_outputs(args, classifier, found, dropped, record) -> None:
    """Every table, and last the record."""
    import pandas as pd

    from synthio.classification import event_tables
    from synthio.files import write_json
    from synthio.manifest import PATH, REASON, write_table

    output = Path(args.output)
    tables = {
        args.audacity: (event_tables.AUDACITY_SUFFIX, event_tables.audacity_labels),
        args.raven: (event_tables.RAVEN_SUFFIX, lambda e: event_tables.raven_table(e, min(classifier.rates) / 2)),
    }
    for folder, (suffix, make) in tables.items():
        if folder:
            texts = {recording.path: make(events) for recording, events in found}
            event_tables.write_per_recording(found, folder, suffix, texts)
    dropped_csv = output.with_suffix(".dropped.csv")
    dropped_csv.unlink(missing_ok=True)
    if dropped:
        rows = [(str(recording.path.absolute()), reason) for recording, reason in dropped]
        write_table(pd.DataFrame(rows, columns=[PATH, REASON]), dropped_csv)
    event_tables.write_events(found, output)
    write_json(output.with_suffix(".json"), record)


def main() -> int:
    args = get_parser().parse_args()
    options = from_args(Listening, args)
    from synthio.classification.events import find_events, find_recordings
    from synthio.classification.saved import load_classifier
    from synthio.manifest import versions

    recordings = find_recordings(args.input)
    quiet_libraries()
    set_threads()
    models = from_args(Places, args).by_kind
    classifier = load_classifier(args.model, models, pick_device(args.device), options.window_s)
    thresholds = thresholds_of(classifier, options, args.model)
    output, started = Path(args.output), time.monotonic()
    cache_folder = args.cache_folder or output.with_name(f"{output.stem}_heard")
    heard, dropped, listened_s = listen_to(recordings, classifier, options, cache_folder)
    spent_s = time.monotonic() - started
    if not heard:
        raise UserError(f"none of the {len(recordings)} recordings can be read; the first: {dropped[0][1]}")
    ignored = classifier.ignored
    limits = {label: one.probability for label, one in thresholds.items()}
    found = [
        (recording, find_events(one, classifier.labels, limits, classifier.multi_label, options.merge_gap_s, ignored))
        for recording, one in heard
    ]
    counts = {"recordings": len(recordings), "heard": len(heard), "dropped": len(dropped)}
    counts["events"] = sum(len(events) for _, events in found)
    record = counts | {"thresholds": {label: vars(one) for label, one in thresholds.items()}}
    write_outputs(args, classifier, found, dropped, record | {"options": vars(args), "versions": versions()})
    minutes = sum(one.seconds for _, one in heard) / 60
    print(f"{counts['events']} events in {minutes:.1f} min of {len(heard)} recordings, {len(dropped)} dropped")
    if listened_s:
        print(f"{listened_s / 60 / spent_s:.2f} minutes of audio a second ({listened_s / spent_s:.0f} x real time)")
    return 0


if __name__ == "__main__":
    run_main(main)
