"""Text out of data sets on the Hugging Face hub, read as a stream."""

from __future__ import annotations

import re
from collections.abc import Iterator

from glossator.errors import CorpusError

_SPEC = re.compile(
    r"hf:(?P<name>[\w.-]+(?:/[\w.-]+)?)(?::(?P<config>[\w.-]+))?(?:/(?P<split>\w+))?"
)


def parse_spec(spec: str) -> tuple[str, str | None, str]:
    """Name, configuration and split that `hf:NAME[:CONFIG][/SPLIT]` stands for.

    Raises:
        CorpusError: if it is not of that form.
    """
    match = _SPEC.fullmatch(spec)
    if not match:
        raise CorpusError(f"{spec!r} is no data set: it should look like hf:NAME:CONFIG/SPLIT")
    return match["name"], match["config"], match["split"] or "train"


def hub_documents(spec: str, offline: bool) -> Iterator[tuple[str, str]]:
    """The column `text` of a data set, each text with `spec` as its source.

    Raises:
        CorpusError: if it cannot be read, or `offline`.
    """
    name, config, split = parse_spec(spec)
    if offline:
        raise CorpusError(
            f"{spec} is on the Hugging Face hub, which --offline forbids; save it as Parquet "
            "once, and give that file"
        )
    try:
        import datasets as hugging_face
    except ImportError:
        load = None
    else:
        load = getattr(hugging_face, "load_dataset", None)
    if load is None:
        raise CorpusError(f"{spec} needs the package datasets: pip install 'glossator[hub]'")
    import httpx

    try:
        rows = load(name, config, split=split, streaming=True)
        for row in rows:
            if "text" not in row:
                raise CorpusError(f"{spec} has no column `text`; it has {', '.join(row)}")
            if row["text"]:
                yield str(row["text"]), spec
    except (OSError, ValueError, RuntimeError, httpx.HTTPError) as error:
        reason = str(error).partition("\n")[0]
        raise CorpusError(f"{spec} cannot be read: {type(error).__name__}: {reason}") from error
