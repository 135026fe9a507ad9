"""The sample profile: real history that ships inside Python packages, read without a network.

Nothing here is simulated: `skfolio` carries the S&P 500 index and twenty US stocks
(adjusted closes) 1990–2022, `arch` daily bars of two indices 1999–2018, VIX, core CPI and
Baa yields. Rows become visible night by night, as they would have from a live source.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from db.availability import AfterClose, AfterPeriod, Availability
from db.errors import SourceError
from db.sessions import sessions
from db.settings import Settings
from db.sources.source import Adjustment, Fetched, Frequency, Kind, Request, Source

# Vendors deliver the consolidated close within the hour.
CONSOLIDATED_CLOSE = AfterClose(hours=1)


@dataclass(frozen=True)
class PackagedFile:
    """A gzipped CSV inside an installed package; its first column holds the dates."""

    package: str
    path: str

    def read(self) -> pd.DataFrame:
        """Rows indexed by date (datetime64, midnight). The package itself is not imported."""
        spec = find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            raise SourceError(
                f"package {self.package} is not installed; the sample profile reads its data: "
                f"pip install {self.package}"
            )
        file = Path(spec.submodule_search_locations[0]) / self.path
        try:
            frame = pd.read_csv(file, index_col=0, na_values=".")
        except (OSError, ValueError) as error:
            raise SourceError(f"sample file {self.path} of {self.package}: {error}") from None
        frame.index = pd.to_datetime(frame.index).as_unit("us")
        return frame


def _visible(
    frame: pd.DataFrame, date_column: str, request: Request, rule: Availability, calendar: str
) -> pd.DataFrame:
    """Rows from `request.start` on that could be used by `request.until`."""
    if request.start is not None:
        frame = frame[frame[date_column] >= pd.Timestamp(request.start)]
    known = rule.known_at(frame[date_column], sessions(calendar))
    return frame[(known <= pd.Timestamp(request.until)).to_numpy()].reset_index(drop=True)


@dataclass(frozen=True)
class SampleSeries:
    """One packaged series of observations."""

    series: str
    file: PackagedFile
    column: str
    availability: Availability
    frequency: Frequency
    calendar: str
    adjustment: Adjustment = "raw"
    kind: Kind = "observations"

    @property
    def name(self) -> str:
        return f"sample.{self.series}"

    def fetch(self, request: Request) -> Fetched:
        values = self.file.read()[self.column]
        # FRED's "." on days without a value, and blanks, are no observations
        values = values.dropna()
        frame = pd.DataFrame(
            {"series": self.series, "period": values.index, "value": values.to_numpy("float64")}
        )
        return Fetched(_visible(frame, "period", request, self.availability, self.calendar))


@dataclass(frozen=True)
class SampleStocks:
    """The packaged panel: one column of adjusted closes for each symbol."""

    file: PackagedFile
    calendar: str
    name: str = "sample.stocks"
    kind: Kind = "bars"
    frequency: Frequency = "session"
    adjustment: Adjustment = "total"
    availability: Availability = CONSOLIDATED_CLOSE

    def fetch(self, request: Request) -> Fetched:
        wide = self.file.read().rename_axis("session")
        if request.entities is not None:
            wide = wide[list(request.entities)]
        long = (
            wide.melt(var_name="entity", value_name="adj_close", ignore_index=False)
            .reset_index()
            .dropna(subset="adj_close")[["entity", "session", "adj_close"]]
        )
        return Fetched(_visible(long, "session", request, self.availability, self.calendar))


@dataclass(frozen=True)
class SampleIndexBars:
    """Packaged daily bars of two indices."""

    files: tuple[tuple[str, PackagedFile], ...]
    calendar: str
    name: str = "sample.index_bars"
    kind: Kind = "bars"
    frequency: Frequency = "session"
    adjustment: Adjustment = "raw"
    availability: Availability = CONSOLIDATED_CLOSE

    def fetch(self, request: Request) -> Fetched:
        columns = ["Open", "High", "Low", "Close", "Volume"]
        parts = [
            file.read()[columns]
            .rename(columns=str.lower)
            .rename_axis("session")
            .reset_index()
            .assign(entity=entity)
            for entity, file in self.files
            if request.entities is None or entity in request.entities
        ]
        frame = pd.concat(parts, ignore_index=True).astype({"volume": "float64"})
        ordered = frame[["entity", "session", *(column.lower() for column in columns)]]
        return Fetched(_visible(ordered, "session", request, self.availability, self.calendar))


def sample_sources(settings: Settings) -> list[Source]:
    """The sources of the sample profile; all are fresh on the sample session."""
    code = settings.calendar
    cpi = PackagedFile("arch", "data/core_cpi/core-cpi.csv.gz")
    yields = PackagedFile("arch", "data/default/default.csv.gz")
    vix = PackagedFile("arch", "data/vix/vix.csv.gz")
    index = PackagedFile("skfolio", "datasets/data/sp500_index.csv.gz")
    return [
        SampleSeries("SP500", index, "SP500", AfterClose(hours=4), "session", code),
        SampleSeries("VIXCLS", vix, "vix", AfterClose(hours=17), "session", code),
        # the monthly macro pair: stand-ins for UMCSENT and IPGMFN, which no package carries.
        # BLS publishes core CPI in the second week of the next month; the Federal Reserve
        # publishes monthly averages of corporate yields on the first working days.
        SampleSeries("CPILFESL", cpi, "CPILFESL", AfterPeriod(15, "month"), "month", code),
        SampleSeries("BAA", yields, "BAA", AfterPeriod(5, "month"), "month", code),
        SampleStocks(PackagedFile("skfolio", "datasets/data/sp500_dataset.csv.gz"), code),
        SampleIndexBars(
            (
                ("^GSPC", PackagedFile("arch", "data/sp500/sp500.csv.gz")),
                ("^IXIC", PackagedFile("arch", "data/nasdaq/nasdaq.csv.gz")),
            ),
            code,
        ),
    ]
