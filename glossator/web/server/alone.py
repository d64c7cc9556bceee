"""The page of one feature in one file, that opens anywhere and asks nothing of the network.

It is the page that the server shows, without what needs a server: no links, forms or script. Its
own policy lets nothing load or run.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from markupsafe import Markup

from glossator.acts import Standing
from glossator.dossier import Dossier
from glossator.errors import ConfigError, StoreError
from glossator.runs import Run, RunStatus
from glossator.store import Store
from glossator.types import Explanation, FeatureId, FeatureRecord, Score
from glossator.web.environment import environment
from glossator.web.server.addresses import address, changed
from glossator.web.server.feature_view import view_of
from glossator.web.server.features import SAID
from glossator.web.whole import write_whole

_HERE = Path(__file__).parent
_TEMPLATES = environment(_HERE / "templates")
_TEMPLATES.globals.update(address=address, changed=changed)
_STYLES = (_HERE.parent / "templates" / "report.css", _HERE / "static" / "pages.css")


def feature_alone(store: Store | None, dossier: Dossier, *, whole: bool = False) -> str:
    """The page of the feature in `dossier`.

    Args:
        store: where predictions are read from; None where the scores carry them.
        dossier: what is known of the feature.
        whole: show every window, and not a few of each stratum.
    """
    style = "\n".join(file.read_text(encoding="utf-8") for file in _STYLES)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return _TEMPLATES.get_template("feature.html.j2").render(
        layout="alone.html.j2",
        alone=True,
        style=Markup(style),  # noqa: S704 - files of this package
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'",
        token="",
        path="",
        section="features",
        view=view_of(store, dossier, whole=whole),
        dossier=dossier,
        run=dossier.run,
        runs=(),
        said=SAID,
        standing=Standing.of(())
        if store is None
        else store.reviews.of(dossier.run.id, dossier.row),
    )


def write_feature(store: Store, run: Run, feature: FeatureId, path: str | Path) -> Path:
    """Writes the page of `feature` as `run` has it to `path`, and gives the path.

    Raises:
        StoreError: if there is no such feature, or the file cannot be written.
    """
    page = feature_alone(store, stored(store, run, feature))
    target = Path(path)
    try:
        write_whole(target, page.encode("utf-8", "replace"))
    except OSError as error:
        raise StoreError(f"cannot write the page to {target}: {error.strerror}") from error
    return target


def stored(store: Store, run: Run, feature: FeatureId) -> Dossier:
    """What `store` holds of `feature` in `run`.

    Raises:
        StoreError: if there is no such feature.
    """
    row = store.browser.row_of(feature)
    dossier = None if row is None else store.dossiers.of(run, row)
    if dossier is None:
        raise StoreError(f"{store.url} holds no feature {feature}")
    return dossier


def held(things: tuple[FeatureRecord | Explanation | Score, ...]) -> Dossier:
    """What somebody holds of one feature, as if it had been stored.

    Raises:
        ConfigError: if nothing is held, or it is of several features.
    """
    features = {thing.feature for thing in things}
    if len(features) != 1:
        named = ", ".join(sorted(map(str, features))[:3]) or "nothing"
        raise ConfigError(f"one feature is shown at a time, and this is of {named}")
    (feature,) = features
    records = [thing for thing in things if isinstance(thing, FeatureRecord)]
    said = tuple(thing for thing in things if isinstance(thing, Explanation))
    scores = [thing for thing in things if isinstance(thing, Score)]
    record = records[-1] if records else None
    best = said[0].explainer if said else ""
    return Dossier(
        row=0,
        feature=feature,
        run=Run("", "", {}, "", "", 0, {}, "", None, RunStatus.DONE),
        kind=record.kind if record else None,
        record=record,
        explanations=said,
        scores=dict(enumerate(scores)),
        failures=(),
        flags=(),
        best=best,
    )
