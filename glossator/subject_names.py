"""What a subject is called in the ids of its features."""

from __future__ import annotations

from pathlib import Path

BUNDLED = ("smollm2-135m",)
"""Subjects that come with glossator, the usual one first."""


def subject_name(given: str) -> str:
    """The name in feature ids of the subject that `--model GIVEN` loads: a folder's or file's own.

    A hub id, and what is neither folder nor file, is its own name.
    """
    if given.startswith("gguf:"):
        return Path(given.removeprefix("gguf:")).expanduser().stem
    if given not in BUNDLED and given and (folder := Path(given).expanduser()).is_dir():
        return folder.resolve().name
    return given
