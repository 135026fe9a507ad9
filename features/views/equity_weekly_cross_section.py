"""Where each stock stands among all stocks of its week: ranks and robust z-scores.

A stock's own history says how it moved; its place among the others says what a ranking is
about. Both are given, so that a network need not find the cross-section of each week itself.
"""

from features.view import Feature, FeatureView, Input

# of three values: the week's return, that of its last session, and a month's volatility
VALUES = ("week", "session", "volatility")
# Beyond three robust deviations all is the same: bad splits would rule the fit.
CLIP = 3
# Of a normal distribution the quartiles lie so many standard deviations apart.
QUARTILES_APART = 1.349

RANK = """
            sqrt(12) * (
                (
                    rank() OVER (PARTITION BY date ORDER BY {name})
                    + (count(*) OVER (PARTITION BY date, {name}) - 1) / 2 - 0.5
                ) / count(*) OVER (PARTITION BY date) - 0.5
            ) AS {name}_rank"""
Z = """
            greatest(-{clip}, least({clip}, coalesce({apart} * ({name} - {name}_median)
                / nullif({name}_upper - {name}_lower, 0), 0))) AS {name}_z"""
QUARTILES = """
            median({name}) OVER (PARTITION BY date) AS {name}_median,
            quantile_cont({name}, 0.25) OVER (PARTITION BY date) AS {name}_lower,
            quantile_cont({name}, 0.75) OVER (PARTITION BY date) AS {name}_upper"""


def _each(part: str) -> str:
    return ",".join(part.format(name=name, clip=CLIP, apart=QUARTILES_APART) for name in VALUES)


SQL = f"""
    -- one row per stock and week in which all three values are there
    WITH stock AS (
        SELECT w.entity, w.date, w.weekly_return AS week, p.return_1 AS session,
            p.volatility_21 AS volatility, greatest(w.known_at, p.known_at) AS known_at
        FROM equity_weekly_return w
        JOIN price_factors p ON p.entity = w.entity AND p.date = w.date
        WHERE isfinite(w.weekly_return) AND isfinite(p.return_1) AND isfinite(p.volatility_21)
    ),
    quartiles AS (
        SELECT *,{_each(QUARTILES)}
        FROM stock
    )
    SELECT entity, date, week AS weekly_return,{_each(RANK)},{_each(Z)},
        max(known_at) OVER (PARTITION BY date) AS known_at
    FROM quartiles
"""

VIEW = FeatureView(
    name="equity_weekly_cross_section",
    description="a stock's place among all stocks of the week, 52 weeks to the next return",
    entity="symbol",
    inputs=(Input("equity_weekly_return", memory=0), Input("price_factors", memory=0)),
    sql=SQL,
    scope="all",
    features=(
        Feature("weekly_return", description="ratio less 1, dividends counted"),
        *(
            Feature(f"{name}_rank", description=f"rank of {what}, spread to variance 1")
            for name, what in (
                ("week", "the week's return"),
                ("session", "the return of the week's last session"),
                ("volatility", "the standard deviation of 21 daily returns"),
            )
        ),
        *(
            Feature(f"{name}_z", description=f"distance of {what} from the median, in quartiles")
            for name, what in (
                ("week", "the week's return"),
                ("session", "the return of the week's last session"),
                ("volatility", "the standard deviation of 21 daily returns"),
            )
        ),
    ),
    window=52,
    target="weekly_return",
    horizon=1,
    horizon_unit="week",
    largest_gap=0,
    static=("symbol", "month"),
    stored="float32",
)
