"""Run by the Python of the environment notebook: run a notebook as Jupyter does, and keep it with its outputs.

    run_notebook.py NOTEBOOK OUTPUT FOLDER NAME=VALUE...

Its cell with the tag `parameters` gets these values, which are texts. A cell that fails ends with its traceback; what
it printed is kept, too.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def main() -> None:
    source, output, folder, *settings = sys.argv[1:]
    notebook = nbformat.read(source, as_version=4)
    nbformat.validate(notebook)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    cell.source = "\n".join(f"{name} = {value!r}" for name, _, value in (word.partition("=") for word in settings))
    try:
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute()
    finally:
        nbformat.write(notebook, Path(output))


main()
