"""Closing level of the S&P 500, index points."""

from features.view import FeatureView

VIEW = FeatureView(
    name="sp500_close",
    description="S&P 500 close (FRED SP500), 63 sessions to the next close",
    entity="series",
    source="observations",
    sql="""
        SELECT series AS entity, period AS date, value AS close, known_at
        FROM known
        WHERE series = 'SP500'
    """,
    features=("close",),
    window=63,  # a quarter of sessions, as in the book
    target="close",
    horizon=1,
    horizon_unit="session",
)
