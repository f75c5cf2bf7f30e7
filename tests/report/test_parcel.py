"""What of a folder may leave; pushed datasets are tested with the script."""

from __future__ import annotations

import pytest

from synthio.cli import UserError
from synthio.report.parcel import Parcel, read_rows, refuse_recordings, terms_of, without_folders


def test_folders_of_the_machine_become_names():
    before = {"a": ["/home/me/w/ast", "hub/clap", "/"], "b": {"c": "/x/y", "d": 1.5, "e": None}, "label/x": "a/b"}
    after = {"a": ["ast", "hub/clap", "/"], "b": {"c": "y", "d": 1.5, "e": None}, "label/x": "a/b"}
    assert without_folders(before) == after


def test_rows_that_do_not_say_what_is_synthetic_are_refused(tmp_path):
    table = tmp_path / "metadata.jsonl"
    table.write_text('{"file_name": "audio/a.wav", "label": "x"}\n')
    with pytest.raises(UserError, match=r"row 1: does not say synthetic, licence, sha256 \(an earlier release"):
        read_rows(table)
    table.write_text("{\n")
    with pytest.raises(UserError, match=r"row 1: no JSON; export it again"):
        read_rows(table)


def test_terms_are_found_by_what_a_row_says():
    stability = "Stability AI Community License, see https://stability.ai/community-license-agreement"
    outputs, derivatives = terms_of(stability, "outputs"), terms_of(stability, "derivatives")
    assert outputs[0] == f"licence of the generator: {stability}" and any("1,000,000" in line for line in outputs)
    assert any("derivative work" in line for line in derivatives) and outputs[1:] != derivatives[1:]
    assert terms_of("apache-2.0", "outputs")[1].strip().startswith("what it says is not known here")


def test_a_parcel_is_written_as_it_is_listed(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"12345")
    parcel = Parcel("adapter", "model", {"README.md": "dög", "deep/a.bin": tmp_path / "a.bin"}, [], [])
    parcel.write(tmp_path / "out")
    assert parcel.size("README.md") == 4 and parcel.size("deep/a.bin") == 5
    assert (tmp_path / "out/README.md").read_bytes() == "dög".encode()
    assert (tmp_path / "out/deep/a.bin").samefile(tmp_path / "a.bin")


def test_recordings_are_refused_unless_they_are_meant(tmp_path):
    rows = [{"file_name": "audio/a.wav", "synthetic": True}, {"file_name": "audio/b.wav", "synthetic": False}]
    with pytest.raises(UserError, match=r"1 of its clips are recordings \(audio/b\.wav\).*give --with_gold"):
        refuse_recordings(tmp_path, rows, with_gold=False)
    with pytest.raises(UserError, match="recordings"):
        refuse_recordings(tmp_path, [{"file_name": "audio/a.wav", "synthetic": "no"}], with_gold=False)
    refuse_recordings(tmp_path, rows, with_gold=True)
    refuse_recordings(tmp_path, rows[:1], with_gold=False)
