"""Annual changes of a monthly pair: the book's third system, and pairs that stand in for it.

The book's pair are the University of Michigan's consumer sentiment (`UMCSENT`) and industrial
production in manufacturing (`IPGMFN`). The sample profile has neither; FRED-MD carries
`UMCSENTx` and `IPMANSICS`, which is seasonally adjusted and so not interchangeable.
"""

from features.view import Feature, FeatureView, Input

SQL = """
    -- one row per month for which both series have a value now and a year before
    WITH level AS (FROM observations WHERE series = '{level}'),
    index AS (FROM observations WHERE series = '{index}')
    SELECT 'US' AS entity, l.period AS date,
        l.value - l0.value AS {level_change},
        ln(i.value) - ln(i0.value) AS {index_change},
        greatest(l.known_at, l0.known_at, i.known_at, i0.known_at) AS known_at
    FROM level l
    JOIN level l0 ON l0.period = l.period - INTERVAL 12 MONTH
    JOIN index i ON i.period = l.period
    JOIN index i0 ON i0.period = l.period - INTERVAL 12 MONTH
    WHERE i.value > 0 AND i0.value > 0
"""


def annual_change(
    name: str, description: str, level: tuple[str, str], index: tuple[str, str]
) -> FeatureView:
    """The view of a pair: difference of a level and of the log of an index over 12 months.

    Parameters
    ----------
    name, description : of the view.
    level, index : series and the feature that its change is called.
    """
    return FeatureView(
        name=name,
        description=description,
        entity="series",
        inputs=(Input("observations", entities=(level[0], index[0]), shared=True),),
        sql=SQL.format(
            level=level[0], index=index[0], level_change=level[1], index_change=index[1]
        ),
        features=(
            Feature(level[1], description="difference over 12 months, unit of the series"),
            Feature(index[1], description="difference of the logarithm over 12 months"),
        ),
        window=24,
        target=level[1],
        horizon=1,
        horizon_unit="month",
        largest_gap=0,
    )


VIEWS = (
    annual_change(
        "macro_annual_change",
        "consumer sentiment and manufacturing (UMCSENT, IPGMFN), 24 months to the next",
        ("UMCSENT", "sentiment_change"),
        ("IPGMFN", "production_change"),
    ),
    annual_change(
        "macro_annual_change_fredmd",
        "consumer sentiment and manufacturing of FRED-MD (UMCSENTx, IPMANSICS), 24 months",
        ("UMCSENTx", "sentiment_change"),
        ("IPMANSICS", "production_change"),
    ),
    annual_change(
        "macro_annual_change_sample",
        "stand-ins of the sample profile: Baa yield and core consumer prices, 24 months",
        ("BAA", "yield_change"),
        ("CPILFESL", "price_change"),
    ),
)
