"""Changes of a monthly pair: the book's third system, and pairs that stand in for it.

The book's pair are the University of Michigan's consumer sentiment (`UMCSENT`) and industrial
production in manufacturing (`IPGMFN`). The sample profile has neither; FRED-MD carries
`UMCSENTx` and `IPMANSICS`, which is seasonally adjusted and so not interchangeable.
"""

from features.view import Feature, FeatureView, Input

SQL = """
    -- one row per month for which both series have a value now, a month and a year before
    WITH level AS (FROM observations WHERE series = '{level}'),
    index AS (FROM observations WHERE series = '{index}')
    SELECT 'US' AS entity, l.period AS date,
        l.value - l0.value AS level_change,
        ln(i.value) - ln(i0.value) AS index_change,
        l.value - l1.value AS level_move,
        ln(i.value) - ln(i1.value) AS index_move,
        greatest(
            l.known_at, l0.known_at, l1.known_at, i.known_at, i0.known_at, i1.known_at
        ) AS known_at
    FROM level l
    JOIN level l0 ON l0.period = l.period - INTERVAL 12 MONTH
    JOIN level l1 ON l1.period = l.period - INTERVAL 1 MONTH
    JOIN index i ON i.period = l.period
    JOIN index i0 ON i0.period = l.period - INTERVAL 12 MONTH
    JOIN index i1 ON i1.period = l.period - INTERVAL 1 MONTH
    WHERE least(i.value, i0.value, i1.value) > 0
"""


def annual_change(name: str, description: str, level: str, index: str) -> FeatureView:
    """The view of a pair: differences of a level and of the log of an index.

    Over 12 months, and over the last one: the first is the sum of twelve of the second, of which
    the oldest, known already, drops out next month. Features are named after what they are of a
    pair, not after its series, so that one recipe learns any pair.

    Parameters
    ----------
    name, description : of the view.
    level, index : the series.
    """
    return FeatureView(
        name=name,
        description=description,
        entity="series",
        inputs=(Input("observations", entities=(level, index), shared=True),),
        sql=SQL.format(level=level, index=index),
        features=(
            Feature("level_change", description=f"{level}: difference over 12 months"),
            Feature("index_change", description=f"{index}: difference of the log over 12 months"),
            Feature("level_move", description=f"{level}: difference over one month"),
            Feature("index_move", description=f"{index}: difference of the log over one month"),
        ),
        window=24,
        target="level_change",
        horizon=1,
        horizon_unit="month",
        largest_gap=0,
    )


VIEWS = (
    annual_change(
        "macro_annual_change",
        "consumer sentiment and manufacturing (UMCSENT, IPGMFN), 24 months to the next",
        "UMCSENT",
        "IPGMFN",
    ),
    annual_change(
        "macro_annual_change_fredmd",
        "consumer sentiment and manufacturing of FRED-MD (UMCSENTx, IPMANSICS), 24 months",
        "UMCSENTx",
        "IPMANSICS",
    ),
    annual_change(
        "macro_annual_change_sample",
        "stand-ins of the sample profile: Baa yield and core consumer prices, 24 months",
        "BAA",
        "CPILFESL",
    ),
)
