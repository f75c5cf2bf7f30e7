"""What is read of a run's folder."""

from __future__ import annotations

from synthio.files import write_json
from synthio.report import run_folder as run_files


def test_the_record_of_a_sharded_table_is_that_of_its_first_shard(tmp_path):
    record = {"sha256": "x", "inputs": {"a": "b"}, "rows_in": 4, "rows_out": 4, "options": {"input_csvs": []}}
    write_json(tmp_path / "g.json", record | {"shards": [{"options": {"num_steps": 24}, "sha256": "y"}]})
    read = run_files.read_record(tmp_path / "g.csv")
    assert read["options"] == {"num_steps": 24} and read["sha256"] == "x"


def test_matched_clips_have_the_record_of_their_generator_too(tmp_path):
    generator = {"options": {"num_steps": 24}}
    write_json(tmp_path / "generated.json", generator)
    assert run_files.generation_records(tmp_path) == {"generate": generator}
    write_json(tmp_path / "unmatched.json", generator)
    write_json(tmp_path / "generated.json", {"channel": "0123", "options": {"gold_csv": "g.csv"}})
    found = run_files.generation_records(tmp_path)
    assert found["generate"] == generator and found["channel"]["options"] == {"gold_csv": "g.csv"}
