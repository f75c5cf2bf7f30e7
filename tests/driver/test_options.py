"""What the drivers say of a user's values: nothing that a terminal would obey."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from synthio.files import EMBEDDED
from tests.driver.test_run import call
from tests.scripts import ROOT

ORDERS = "\x1b[2J\x1b]0;title\x07\x08\x7f\x9b2J\u202egpj\u2066\u200b\ufeff"


def is_harmless(text: str) -> bool:
    return all(char.isprintable() or char in "\n\t" for char in text)


@pytest.mark.parametrize(
    "words",
    [
        [f"--{ORDERS}", "1"],
        [ORDERS],
        ["--seed", ORDERS],
        ["--augment", ORDERS],
        ["--device", "cpu", "--ast_model", f"./{ORDERS}"],
        ["--input_train_file", f"{ORDERS}.csv", "--check"],
        ["--dataset_name", ORDERS, "--dry_run"],
        ["--results_root", f"/tmp/{ORDERS}", "--dry_run"],
    ],
)
def test_no_value_reaches_the_terminal_as_an_order(words, tmp_path):
    done = call(*words, cwd=tmp_path)
    text = done.stdout + done.stderr
    assert text and is_harmless(text) and "Traceback" not in text


def test_the_embedded_models_are_where_the_package_has_them():
    """The driver says their folder, too, for it looks at models before there is a Python."""
    code = 'for part in options choices; do source "$1/extras/driver/$part.sh"; done; root=$1; read_written; '
    code += "model_path embedded ast_model"
    done = subprocess.run(["bash", "-c", code, "_", str(ROOT)], capture_output=True, text=True, check=True)
    assert done.stdout == str(EMBEDDED / "ast") and Path(done.stdout).is_dir()


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"a{ORDERS}b", "a?[2J?]0;title????2J?gpj???b"),
        ("a\tb", "a\tb"),
        ("Gebäck 犬 كلب می\u200cخواهم ❤\ufe0f", "Gebäck 犬 كلب می\u200cخواهم ❤\ufe0f"),
    ],
)
def test_text_of_any_script_is_shown_as_it_is(locale, text, shown):
    code = 'source "$1"; printable "$2"; printf %s "$REPLY"'
    command = ["bash", "-c", code, "_", str(ROOT / "extras/driver/options.sh"), text]
    done = subprocess.run(command, capture_output=True, env={"LC_ALL": locale, "PATH": "/usr/bin:/bin"}, check=True)
    assert done.stdout.decode() == shown


# ---- words that are nearly options, and values that are none


@pytest.mark.parametrize("environment", [{"POSIXLY_CORRECT": "1"}, {"SHELLOPTS": "posix"}])
@pytest.mark.parametrize("driver", ["run.sh", "experiment.sh"])
def test_posix_by_the_environment_does_not_start_it_for_ever(environment, driver):
    """bash was posix again each time that the script started it to be none."""
    done = call("--device", "x y", driver=ROOT / driver, timeout=60, **environment)
    assert done.returncode == 2 and "'x y'" in done.stderr
    starts = {(ROOT / name).read_text().split("; fi # ")[0].split("if [")[1] for name in ("test.sh", driver)}
    assert len(starts) == 1


def test_all_values_that_are_wrong_are_told_at_once(tmp_path):
    done = call(
        "--check", "--seed", "x", "--num_samples", "−5", "--augment", "maybe", "--dpo_loss", "SFT", cwd=tmp_path
    )
    assert done.returncode == 2 and done.stderr.splitlines() == [
        "run.sh: 4 mistakes:",
        "  --num_samples: '−5' is not a whole number",
        "  --seed: 'x' is not a whole number",
        "  --augment: 'maybe' is not a boolean; use true or false",
        "  --dpo_loss: 'SFT' is none of dpo, sft",
    ]
    done = call("--dpo_beta", "1\r", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr == "run.sh: --dpo_beta: '1?' is not a number\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--check", "—seed", "5"], "'—seed' is no option; did you mean --seed?"),
        (["-seed", "5"], "'-seed' is no option; did you mean --seed?"),
        (["--check", "seed=5"], "'seed=5' is no option; did you mean --seed=5?"),
        (["--"], "'--' is no option; options are --name value"),
        (["--=5"], "unknown option --=5"),
        (
            ["--train_csv", "a.csv"],
            "unknown option --train_csv; did you mean --input_train_file? (see sh run.sh --help)",
        ),
        (["--threads", "2"], "unknown option --threads; did you mean --cpu_threads?"),
        (
            ["--epochs", "2"],
            "unknown option --epochs; did you mean --dpo_num_epochs or --ast_epochs or --supcon_epochs?",
        ),
        (["--model", "x"], "unknown option --model (see"),  # it would be one of many
        (["--helo"], "unknown option --helo; did you mean --help? (see"),
        (["--result_folder", "a"], "unknown option --result_folder (see sh run.sh --help)"),
        (["--dpo", "maybe"], "--dpo: 'maybe' is not a boolean; use true, false or auto"),
        (["--num_samples", "-4"], "--num_samples: -4 is outside [0, infinity]"),
        (["--dpo_beta=-.5"], "--dpo_beta: -.5 is outside [0, infinity]"),
        (["--domain", "street\r"], "--domain: a carriage return is not allowed"),
        (["--dataset_name", "x" * 201], "--dataset_name: a name of 201 bytes, at most 200 are allowed"),
    ],
)
def test_words_that_are_nearly_options(words, said, tmp_path):
    done = call(*words, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith(f"run.sh: {said}"), done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [[], ["--check"]])
@pytest.mark.parametrize("place", ["file", "link", "mine"])
def test_a_place_where_no_outputs_can_be_is_told_before_anything(words, place, tmp_path):
    """mkdir's own words ended the run, and --check found nothing missing."""
    (tmp_path / "file").write_text("")
    (tmp_path / "mine").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    where = ["--dataset_name", place, "--results_root", "."] if place == "mine" else ["--results_root", place]
    done = call(*words, *where, cwd=tmp_path)
    assert done.returncode == 2 and "is for outputs, but" in done.stderr and f"{place} is no folder" in done.stderr


@pytest.mark.parametrize("name", ["clap_model", "ast_model", "text_to_audio_model", "captioner"])
def test_a_folder_or_file_that_holds_no_model(name, tmp_path):
    """--check found nothing missing, and a stage with a model ended the run."""
    (tmp_path / "audio").mkdir()
    (tmp_path / "train.csv").write_text("path,label\n")
    for model in ("audio", "train.csv"):
        done = call("--check", f"--{name}", model, cwd=tmp_path)
        assert done.returncode == 2 and f"{model}: holds no model" in done.stderr


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["notes.json"], "no config.json or model_index.json or model_config.json, and no weights"),
        (["results/scores.json"], "no config.json or model_index.json or model_config.json, and no weights"),
        (
            ["clap/config.json", "clap/model.safetensors"],
            "no config.json or model_index.json or model_config.json, and",
        ),
        (["config.json"], "config.json is there, but no weights"),
        (["model_index.json", "vae/config.json"], "model_index.json is there, but no weights"),
    ],
)
def test_a_folder_that_holds_something_else_than_a_model(files, said, tmp_path):
    """Any .json, two levels down too, passed for a model."""
    for name in files:
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).touch()
    done = call("--check", "--clap_model", "folder", cwd=tmp_path)
    assert done.returncode == 2 and f"folder: holds no model: {said}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = call("--check", "--dpo_ckpt_folder", "folder", cwd=tmp_path)
    assert done.returncode == 2 and "holds no adapter: no adapter_config.json or synthio_adapter.json" in done.stderr


@pytest.mark.parametrize("is_linked", [False, True], ids=["files", "links"])
@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("clap_model", ["config.json", "model.safetensors"]),
        ("ast_model", ["config.json", "pytorch_model.bin"]),
        ("text_to_audio_model", ["model_index.json", "vae/diffusion_pytorch_model.safetensors"]),
        ("text_to_audio_model", ["model_config.json", "model.ckpt"]),
        ("text_to_audio_model", ["model_config.json", "model.safetensors"]),
        ("dpo_ckpt_folder", ["adapter_config.json", "adapter_model.safetensors"]),
        ("dpo_ckpt_folder", ["synthio_adapter.json", "prefix.safetensors"]),
    ],
)
def test_a_folder_that_may_hold_a_model(name, files, is_linked, tmp_path):
    """Also of links to files, as the cache of the hub has them. What is refused in the end is a model after it."""
    for k, file in enumerate(files):
        path = tmp_path / "folder" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"blob{k}").touch()
        if is_linked:
            path.symlink_to(tmp_path / f"blob{k}")
        else:
            path.touch()
    done = call("--check", f"--{name}", "folder", "--captioner", "./gone", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.strip() == "run.sh: no such model folder: ./gone"


@pytest.mark.parametrize("file", ["clap.pt", "clap.pth", "model.ckpt"])
def test_a_file_that_may_hold_a_model(file, tmp_path):
    (tmp_path / "blob").touch()
    (tmp_path / file).symlink_to("blob")
    done = call("--check", "--clap_model", file, "--captioner", "./gone", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.strip() == "run.sh: no such model folder: ./gone"


@pytest.mark.parametrize("name", ["input_train_file", "valid_csv", "test_csv"])
def test_an_input_is_never_written_over(name, tmp_path):
    """Stage 9 would have written the merged CSV in its place."""
    csvs = {key: tmp_path / f"{key}.csv" for key in ("input_train_file", "valid_csv", "test_csv")}
    for path in csvs.values():
        path.write_text("path,label\n")
    (tmp_path / "link.csv").symlink_to(csvs[name])
    words = [word for key, path in csvs.items() for word in (f"--{key}", path)]
    for output in (csvs[name], tmp_path / "link.csv"):
        done = call("--dry_run", *words, "--output_csv_path", output, cwd=tmp_path)
        assert done.returncode == 2 and f"--output_csv_path is {name} (" in done.stderr


def test_outputs_that_are_something_else(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for words, said in (
        (["--output_csv_path", "folder"], "folder is a folder; name a file in it"),
        (["--output_csv_path", "file/x.csv"], "file is no folder"),
        (["--embeddings_folder", "file"], "file is no folder"),
        (["--dpo_ckpt_folder", "folder"], "folder holds no adapter"),
    ):
        done = call("--check", *words, cwd=tmp_path)
        assert done.returncode == 2 and said in done.stderr, done.stderr
