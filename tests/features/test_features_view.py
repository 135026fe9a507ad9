from dataclasses import replace

import pytest

from db.errors import UsageError
from features.view import FeatureView

VIEW = FeatureView(
    name="closes",
    description="closes",
    entity="series",
    source="observations",
    sql="SELECT series AS entity, period AS date, value AS close, known_at FROM known",
    features=("close",),
    window=5,
    target="close",
    horizon=1,
    horizon_unit="session",
)

OTHERWISE = {
    "name": "other",
    "entity": "symbol",
    "source": "bars",
    "sql": VIEW.sql.replace("value", "ln(value)"),
    "features": ("close", "volume"),
    "window": 6,
    "horizon": 2,
    "horizon_unit": "week",
    "largest_gap": 4,
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_whatever_determines_the_values_is_in_the_version(name):
    other = replace(VIEW, **{name: OTHERWISE[name]})
    assert other.version != VIEW.version
    assert other.table != VIEW.table


def test_the_target_and_the_order_of_features_are_in_the_version():
    two = replace(VIEW, features=("close", "volume"))
    assert replace(two, target="volume").version != two.version
    assert replace(two, features=("volume", "close")).version != two.version


def test_every_field_but_the_description_is_declared():
    fields = set(VIEW.__dataclass_fields__) - {"description"}
    assert set(VIEW.declaration) == fields | {"engine"}
    assert fields == set(OTHERWISE) | {"target"}


SAME = {
    "description": {"description": "the same values in other words"},
    "line breaks": {"sql": VIEW.sql.replace(" FROM", "\n        FROM").replace(", ", ",\n ")},
    "blanks around": {"sql": f"\n   {VIEW.sql}\n"},
    "comments": {"sql": f"-- one row per close\n{VIEW.sql}  /* all\n of them */ -- known by then"},
}


@pytest.mark.parametrize("what", SAME)
def test_words_for_people_do_not_change_the_version(what):
    assert replace(VIEW, **SAME[what]).version == VIEW.version


def test_blanks_and_dashes_inside_quotes_change_it():
    versions = {
        replace(VIEW, sql=f"{VIEW.sql} WHERE series = {text}").version
        for text in ("'A B'", "'A  B'", "'A -- B'", "'A -- C'", "'A''  B'", '"A  B"', '"A B"')
    }
    assert len(versions) == 7


def test_a_comment_does_not_swallow_what_follows_its_line():
    commented = VIEW.sql.replace("AS close", "-- points\n * 2 AS close")
    swallowing = VIEW.sql.replace("AS close", "-- points * 2 AS close\n")
    assert replace(VIEW, sql=commented).version != replace(VIEW, sql=swallowing).version
    assert replace(VIEW, sql=swallowing).version != VIEW.version


def test_the_version_is_the_same_in_every_process():
    assert VIEW.version == "a7afe684608c"
    assert VIEW.table == "features.closes_a7afe684608c"


BAD = {
    "name": ("Closes", "lower case"),
    "entity": ("company", "symbol, series, document"),
    "source": ("documents", "observations, bars"),
    "horizon_unit": ("day", "session, week, month"),
    "window": (0, "positive"),
    "horizon": (-1, "positive"),
    "largest_gap": (-1, "negative"),
    "target": ("open", "none of its features"),
    "features": (("close", "close"), "twice"),
}


@pytest.mark.parametrize("field", BAD)
def test_a_bad_declaration_is_refused_in_one_line(field):
    value, reason = BAD[field]
    with pytest.raises(UsageError, match=reason) as caught:
        replace(VIEW, **{field: value})
    message = str(caught.value)
    assert message.startswith("feature view ")
    assert ("Closes" if field == "name" else "closes") in message
    assert "\n" not in message


@pytest.mark.parametrize("feature", ["Close", "date", "known_at", "known_until", "a b", "a;b"])
def test_a_feature_is_a_column_name_of_its_own(feature):
    with pytest.raises(UsageError, match="feature view closes: feature") as caught:
        replace(VIEW, features=("close", feature))
    assert repr(feature) in str(caught.value)
