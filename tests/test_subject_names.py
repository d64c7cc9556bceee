"""What the subject of `--model` is called in feature ids, as loading calls it."""

from __future__ import annotations

from pathlib import Path

import pytest

from glossator.cli.investigate import parsed
from glossator.errors import ConfigError
from glossator.subject import load_subject
from glossator.subject_names import subject_name
from tests.tiny_llama import save_tiny_llama


def test_a_folder_far_away_is_called_by_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "some" / "tiny"
    folder.mkdir(parents=True)
    save_tiny_llama(folder)
    assert load_subject(str(folder), device="cpu").name == subject_name(str(folder)) == "tiny"
    for text in ("layers.0.mlp.neurons/1", "tiny//layers.0.mlp.neurons/1"):
        assert str(parsed(text, str(folder))) == "tiny//layers.0.mlp.neurons/1"
    with pytest.raises(ConfigError, match="is of gpt2"):
        parsed("gpt2//layers.0.mlp.neurons/1", str(folder))
    monkeypatch.chdir(folder)
    assert subject_name(".") == "tiny"


def test_gguf_files_are_called_by_their_stem_and_all_else_as_given() -> None:
    assert subject_name("gguf:/a/model.q8.gguf") == "model.q8"
    assert subject_name("owner/model") == "owner/model"
    assert subject_name("smollm2-135m") == "smollm2-135m"
