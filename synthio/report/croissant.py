"""A dataset folder in words that machines read: Croissant 1.0 of MLCommons, with its RAI extension.

https://docs.mlcommons.org/croissant/docs/croissant-spec.html (and croissant-rai-spec.html). The records stand in a JSON
file of their own, `RECORDS`, for the library mlcroissant reads JSON Lines by pandas, which makes the number 1 of the
label 001. It reads no WAV: a record names its clip by `file_name`, and gives the hash of the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synthio.files import sha256_file
from synthio.publish.cards import citation

RECORDS = "records.json"
CROISSANT = "croissant.json"
# The context that the specification wants, word for word.
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
CONFORMS_TO = ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"]
DATA_TYPES = {bool: "sc:Boolean", int: "sc:Integer", float: "sc:Float", str: "sc:Text"}
MEDIA_TYPES = {".wav": "audio/wav", ".flac": "audio/flac", ".ogg": "audio/ogg", ".mp3": "audio/mpeg"}


def file_object(path: Path, encoding: str) -> dict[str, Any]:
    """A file of the folder, with its hash."""
    return {
        "@type": "cr:FileObject",
        "@id": path.name,
        "name": path.name,
        "contentUrl": path.name,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": encoding,
        "sha256": sha256_file(path),
    }


def field(name: str, kind: type, text: str) -> dict[str, Any]:
    """A column of the records."""
    return {
        "@type": "cr:Field",
        "@id": f"clips/{name}",
        "name": name,
        "description": text,
        "dataType": DATA_TYPES[kind],
        "source": {"fileObject": {"@id": RECORDS}, "extract": {"jsonPath": f"$[*].{name}"}},
    }


def croissant(
    folder: Path,
    title: str,
    description: str,
    licence: str,
    version: str,
    date: str,
    columns: Mapping[str, tuple[type, str]],
    responsible: Mapping[str, str | Sequence[str]],
) -> dict[str, Any]:
    """The JSON-LD of a folder that holds audio/, metadata.jsonl and `RECORDS`.

    Args:
        folder: it.
        title, description: in words.
        licence: of the clips.
        version: of semantic versioning.
        date: of its making, as 2026-01-31.
        columns: name -> (type, meaning) of the records.
        responsible: property of the RAI vocabulary, without its prefix -> text.
    """
    suffixes = sorted({path.suffix for path in (folder / "audio").iterdir()})
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": title,
        "description": description,
        "conformsTo": CONFORMS_TO,
        "license": licence,
        "version": version,
        "dateCreated": date,
        "datePublished": date,
        "citeAs": citation(),
        "keywords": ["audio", "audio classification", "synthetic data", "Synthio"],
        **{f"rai:{name}": text for name, text in responsible.items()},
        "distribution": [
            file_object(folder / RECORDS, "application/json"),
            file_object(folder / "metadata.jsonl", "application/jsonlines"),
            {
                "@type": "cr:FileSet",
                "@id": "audio",
                "name": "audio",
                "description": f"The clips; `sha256` of each file stands in {RECORDS}.",
                "encodingFormat": [MEDIA_TYPES.get(suffix, "application/octet-stream") for suffix in suffixes],
                "includes": [f"audio/*{suffix}" for suffix in suffixes],
            },
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "clips",
                "name": "clips",
                "key": {"@id": "clips/file_name"},
                "field": [field(name, kind, text) for name, (kind, text) in columns.items()],
            }
        ],
    }
