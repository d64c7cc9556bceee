"""What a notebook shows of a feature or a run: the page of it, in a frame of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from markupsafe import escape

from glossator.errors import ConfigError, StoreError
from glossator.store import Store
from glossator.types import Explanation, FeatureId, FeatureRecord, Score
from glossator.web.whole import write_whole


@dataclass(frozen=True, slots=True)
class Shown:
    """A page; the last value of a notebook's cell shows itself."""

    title: str
    page: str
    """The whole of it, as HTML that needs nothing else."""
    height: int = 640
    """Pixels."""

    def _repr_html_(self) -> str:
        # In a frame without rights: no script of the page or of a text in it reaches the notebook.
        return (
            f'<iframe sandbox="" title="{escape(self.title)}" srcdoc="{escape(self.page)}" '
            f'width="100%" height="{self.height}" style="border:1px solid #8888"></iframe>'
        )

    def __repr__(self) -> str:
        return f"<page of {self.title}, {len(self.page):,} characters>"

    def save(self, path: str | Path) -> Path:
        """Writes the page to `path`, to send to somebody, and gives the path.

        Raises:
            StoreError: if it cannot be written.
        """
        target = Path(path)
        try:
            write_whole(target, self.page.encode("utf-8", "replace"))
        except OSError as error:
            raise StoreError(f"cannot write the page to {target}: {error.strerror}") from error
        return target


def show(
    *things: FeatureRecord | Explanation | Score | Store,
    run: str | None = None,
    feature: FeatureId | str | None = None,
) -> Shown:
    """The page of what you hold of one feature, or of a run or a feature in a store.

    Args:
        things: a record, explanations and scores of one feature; or a store alone.
        run: of the store; the newest if None.
        feature: of the store; the whole run if None.

    Raises:
        ConfigError: if they are of several features, or no feature is called so.
        StoreError: if there is no such run or feature.
    """
    from glossator.web.server.alone import feature_alone, held, stored

    kept = [thing for thing in things if isinstance(thing, Store)]
    loose = tuple(thing for thing in things if not isinstance(thing, Store))
    if not kept:
        if run is not None or feature is not None:
            raise ConfigError("run and feature name what is in a store: give the store first")
        dossier = held(loose)
        return Shown(str(dossier.feature), feature_alone(None, dossier))
    if len(things) > 1:
        raise ConfigError("show a store alone, or what you hold of one feature")
    (store,) = kept
    if feature is None:
        from glossator.web.report import report_of

        found, page = report_of(store, run)
        return Shown(f"run {found.id}", page)
    from glossator.cli.feature import find_feature

    of_run, named = find_feature(store, str(feature), run)
    return Shown(str(named), feature_alone(store, stored(store, of_run, named)))
