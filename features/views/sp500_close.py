"""Closing level of the S&P 500, index points."""

from features.view import Feature, FeatureView, Input

VIEW = FeatureView(
    name="sp500_close",
    description="S&P 500 close (FRED SP500), 63 sessions to the next close",
    entity="series",
    inputs=(Input("observations", entities=("SP500",), memory=0),),
    sql="""
        SELECT series AS entity, period AS date, value AS close, known_at
        FROM observations
    """,
    features=(Feature("close", description="index points"),),
    window=63,  # a quarter of sessions, as in the book
    target="close",
    horizon=1,
    horizon_unit="session",
)
