"""The catalog of feature views: every module under `features/views` that declares one."""

from __future__ import annotations

import importlib
import pkgutil
from functools import lru_cache

from db.errors import UsageError
from features import views
from features.view import FeatureView


@lru_cache(maxsize=1)
def feature_views() -> dict[str, FeatureView]:
    """Views by name.

    Raises
    ------
    UsageError
        Two modules declare the same name.
    """
    catalog: dict[str, FeatureView] = {}
    for module in pkgutil.iter_modules(views.__path__):
        declared = importlib.import_module(f"{views.__name__}.{module.name}")
        view: FeatureView | None = getattr(declared, "VIEW", None)
        if view is None:
            continue
        if view.name in catalog:
            raise UsageError(f"feature view {view.name} is declared twice: {module.name}.py")
        catalog[view.name] = view
    return catalog


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
