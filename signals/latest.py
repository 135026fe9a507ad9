"""What readers look at first: the newest live rows, and signals side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from db.sessions import Sessions

if TYPE_CHECKING:
    from db.warehouse import Warehouse


def refresh_latest(warehouse: Warehouse, calendar: Sessions, session: object) -> None:
    """Rebuild `signals_latest`: the newest live row per signal, entity and horizon.

    Where two versions scored the same date, the one published last counts. Ages are
    sessions up to the newest session that any live signal or `session` has reached.
    """
    latest = warehouse.frame(
        """
        SELECT *
        FROM main.signals
        WHERE role = 'live'
        QUALIFY row_number() OVER (
            PARTITION BY signal, entity, horizon, horizon_unit
            ORDER BY as_of DESC, published_at DESC, model_version
        ) = 1
        """
    )
    newest = max([pd.Timestamp(str(session)), *latest["as_of"]])
    latest["age"] = [calendar.age(day.date(), newest.date()) for day in latest["as_of"]]
    with warehouse.transaction():
        warehouse.native.execute("DELETE FROM main.signals_latest")
        with warehouse.relation(latest) as incoming:
            warehouse.native.execute(
                f"INSERT INTO main.signals_latest BY NAME SELECT * FROM {incoming} "
                "ORDER BY signal, entity"
            )
