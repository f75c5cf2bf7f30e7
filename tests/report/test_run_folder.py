"""What is read of a run's folder."""

from __future__ import annotations

from synthio.files import write_json
from synthio.report import run_folder as run_files


def test_the_record_of_a_sharded_table_is_that_of_its_first_shard(tmp_path):
    record = {"sha256": "x", "inputs": {"a": "b"}, "rows_in": 4, "rows_out": 4, "options": {"input_csvs": []}}
    write_json(tmp_path / "g.json", record | {"shards": [{"options": {"num_steps": 24}, "sha256": "y"}]})
    read = run_files.read_record(tmp_path / "g.csv")
    assert read["options"] == {"num_steps": 24} and read["sha256"] == "x"
