"""The catalog of feature views: every module under `features/views` that declares some."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from db.errors import UsageError
from features import views
from features.view import FeatureView


@lru_cache(maxsize=1)
def feature_views() -> dict[str, FeatureView]:
    """Views by name; each stands after those that it reads.

    Raises
    ------
    UsageError
        A module cannot be imported, two views have the same name, one reads a view that
        is not there, or views read each other in a circle.
    """
    catalog: dict[str, FeatureView] = {}
    for module in _modules():
        for view in _declared(module):
            if view.name in catalog:
                where = Path(module.__file__ or "").name
                raise UsageError(f"feature view {view.name} is declared twice: {where}")
            catalog[view.name] = view
    return in_order(catalog)


def feature_view(name: str) -> FeatureView:
    """The view of that name.

    Raises
    ------
    UsageError
        There is none; the message lists what there is.
    """
    catalog = feature_views()
    if name not in catalog:
        raise UsageError(f"no feature view {name!r}; there are: {', '.join(sorted(catalog))}")
    return catalog[name]


def in_order(catalog: Mapping[str, FeatureView]) -> dict[str, FeatureView]:
    """The views, each after those that it reads.

    Raises
    ------
    UsageError
        A view reads one that is not there, or views read each other in a circle.
    """
    ordered: dict[str, FeatureView] = {}

    def place(view: FeatureView, path: tuple[str, ...]) -> None:
        if view.name in path:
            circle = " → ".join([*path[path.index(view.name) :], view.name])
            raise UsageError(f"feature view {view.name} reads itself in a circle: {circle}")
        if view.name in ordered:
            return
        for given in view.inputs:
            if given.is_raw:
                continue
            if given.table not in catalog:
                raise view.wrong(
                    f"it reads {given.table!r}, which is neither bars, observations, sentiment "
                    "nor a feature view"
                )
            place(catalog[given.table], (*path, view.name))
        ordered[view.name] = view

    for view in catalog.values():
        place(view, ())
    return ordered


def _modules() -> Iterator[ModuleType]:
    for found in pkgutil.iter_modules(views.__path__):
        name = f"{views.__name__}.{found.name}"
        try:
            yield importlib.import_module(name)
        except UsageError:
            raise
        except Exception as error:  # a researcher's file: whatever is wrong there has a name
            raise UsageError(
                f"feature views of {found.name}.py cannot be read: {type(error).__name__}: {error}"
            ) from error


def _declared(module: ModuleType) -> tuple[FeatureView, ...]:
    """What a module declares: `VIEW`, or several `VIEWS`."""
    one: FeatureView | None = getattr(module, "VIEW", None)
    several: tuple[FeatureView, ...] = getattr(module, "VIEWS", ())
    return (one, *several) if one is not None else tuple(several)
