from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from features.rolling import Rows, positions
from tests.bits import same_bits

# What each statistic is, of the values of one window, oldest first.
STATISTICS = {
    "sum": np.sum,
    "mean": np.mean,
    "product": np.prod,
    "max": np.max,
    "min": np.min,
    "std": lambda values: np.std(values, ddof=1) if len(values) > 1 else np.nan,
}


def rows_of(lengths, **choice):
    """Rows of entities with so many each, known in order; a different day for each row."""
    n = sum(lengths)
    entity = np.repeat(np.arange(len(lengths), dtype="int32"), lengths)
    return Rows(
        np.array([f"S{number}" for number in range(len(lengths))], object),
        entity,
        np.datetime64("2018-01-01") + positions(entity).astype("timedelta64[D]"),
        choice.pop("known_at", np.arange(n, dtype="int64")),
        {},
        **choice,
    )


def by_window(rows, values, window, statistic):
    """The statistic of each window alone: NaN where the entity has fewer rows."""
    found = np.full(len(rows), np.nan)
    for at in range(len(rows)):
        begin = at - window + 1
        if rows.position[at] >= window - 1:
            found[at] = statistic(*(column[begin : at + 1] for column in values))
    return found


def part(rows, begin):
    """The rows from one on, as a store gives the tail of a history."""
    return replace(
        rows,
        entity=rows.entity[begin:],
        date=rows.date[begin:],
        known_at=rows.known_at[begin:],
    )


LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=5)
CASES = {
    "lengths": LENGTHS,
    "window": st.integers(1, 45),
    "seed": st.integers(0, 2**32 - 1),
    "holes": st.sampled_from((0, 0, 1, 3)),
}


def drawn(lengths, seed, holes, low=0.8, high=1.25):
    """A column of values, some of them missing."""
    random = np.random.default_rng(seed)
    values = random.uniform(low, high, sum(lengths))
    values[random.integers(0, len(values), holes)] = np.nan
    return values


@pytest.mark.parametrize("name", STATISTICS)
@examples(max_examples=40)
@given(**CASES)
def test_a_statistic_is_that_of_its_window_alone(name, lengths, window, seed, holes):
    if name == "std" and window == 1:
        return
    rows, values = rows_of(lengths), drawn(lengths, seed, holes)
    expected = by_window(rows, (values,), window, STATISTICS[name])
    np.testing.assert_allclose(
        getattr(rows, name)(values, window), expected, rtol=1e-9, atol=1e-7, equal_nan=True
    )


@examples(max_examples=60)
@given(**CASES)
def test_statistics_of_prices_are_those_of_each_window(lengths, window, seed, holes):
    """Growth, mean, highest and a sum of amounts, from prices built of the growth."""
    rows, growth = rows_of(lengths), drawn(lengths, seed, holes)
    amount = drawn(lengths, seed + 1, 0)

    def prices(growth):
        return np.cumprod(np.r_[1.0, growth[1:]])

    (level,) = rows.levels(growth, (window,))
    expected = {
        "mean": lambda g: np.mean(prices(g)) / prices(g)[-1],
        "highest": lambda g: np.max(prices(g)) / prices(g)[-1],
        "amounts": lambda g, a: np.sum(prices(g) * a) / prices(g)[-1],
    }
    found = {
        "mean": level.mean,
        "highest": level.highest,
        "amounts": rows.priced_sums(growth, (amount,), window)[0],
    }
    for name, statistic in expected.items():
        columns = (growth, amount) if name == "amounts" else (growth,)
        wanted = by_window(rows, columns, window, statistic)
        # a window of prices takes no growth into its first one; a missing one may mask it
        known = np.isfinite(found[name])
        np.testing.assert_allclose(found[name][known], wanted[known], rtol=1e-9)
        assert np.isnan(wanted[rows.position < window - 1]).all()
        if not holes:
            assert (known == np.isfinite(wanted)).all()
    gained = by_window(rows, (growth,), window, np.prod)
    gained[rows.position < window] = np.nan  # the price before the window is one more row
    np.testing.assert_allclose(level.growth, gained, rtol=1e-9)


@examples(max_examples=40)
@given(**CASES)
def test_covariance_is_that_of_each_window(lengths, window, seed, holes):
    rows, x, y = rows_of(lengths), drawn(lengths, seed, holes), drawn(lengths, seed + 1, 0)
    window += 1

    def covariance(x, y):
        return ((x - x.mean()) * (y - y.mean())).sum() / (len(x) - 1)

    expected = by_window(rows, (x, y), window, covariance)
    np.testing.assert_allclose(rows.covariance(x, y, window), expected, rtol=1e-7, atol=1e-12)


@examples(max_examples=40)
@given(lengths=LENGTHS, back=st.integers(0, 45), seed=st.integers(0, 99))
def test_a_lag_stays_within_its_entity(lengths, back, seed):
    rows, values = rows_of(lengths), drawn(lengths, seed, 0)
    expected = by_window(rows, (values,), back + 1, lambda window: window[0])
    np.testing.assert_array_equal(rows.lag(values, back), expected)
    np.testing.assert_array_equal(values, drawn(lengths, seed, 0))


@examples(max_examples=40)
@given(lengths=LENGTHS, memory=st.integers(0, 45), seed=st.integers(0, 99))
def test_the_newest_is_that_of_the_row_and_its_memory(lengths, memory, seed):
    """A window that begins before the entity is cut, not left out."""
    known = np.random.default_rng(seed).integers(0, 10**6, sum(lengths))
    rows = rows_of(lengths, known_at=known)
    expected = [
        known[at - min(memory, rows.position[at]) : at + 1].max() for at in range(len(rows))
    ]
    asked = np.arange(0, len(rows), 3)
    assert rows.newest(memory).tolist() == expected
    assert replace(rows, asked=asked).newest(memory).tolist() == np.array(expected)[asked].tolist()


def every_statistic(rows, column, other, window):
    """All of them, by name: (m,) each."""
    (level,) = rows.levels(column, (window,))
    return {
        **{name: getattr(rows, name)(column, window) for name in STATISTICS if name != "std"},
        "std": rows.std(column, window + 1),
        "covariance": rows.covariance(column, other, window + 1),
        "growth": level.growth,
        "levels": level.mean,
        "highest": level.highest,
        "priced_sum": rows.priced_sums(column, (other, column), window)[0],
        "several": rows.sums(column, (2 * window, window, 3))[1],
        "lag": rows.lag(column, window),
        "now": rows.now(column),
    }


def assert_same_bits(found, expected):
    for name, values in found.items():
        assert same_bits(values, expected[name]), name


@examples(max_examples=80)
@given(**CASES, asked=st.integers(1, 6))
def test_what_is_asked_for_is_what_all_rows_have_bit_for_bit(lengths, window, seed, holes, asked):
    """Few rows asked for and many: they are folded in two ways."""
    rows, random = rows_of(lengths), np.random.default_rng(seed)
    column, other = drawn(lengths, seed, holes), drawn(lengths, seed + 1, 0)
    positions_asked = np.unique(random.integers(0, len(rows), asked))
    some = replace(rows, asked=positions_asked)
    whole = every_statistic(rows, column, other, window)
    assert_same_bits(
        every_statistic(some, column, other, window),
        {name: values[positions_asked] for name, values in whole.items()},
    )
    assert_same_bits(every_statistic(some.everywhere, column, other, window), whole)


@examples(max_examples=80)
@given(window=st.integers(1, 45), seed=st.integers(0, 2**32 - 1), new=st.integers(1, 4))
def test_a_tail_gives_what_the_whole_history_gives_bit_for_bit(window, seed, new):
    """From as many rows before the first one as the window has, wherever the tail begins."""
    length = 140
    rows = rows_of([length])
    column, other = drawn([length], seed, 0), drawn([length], seed + 1, 0)
    whole = every_statistic(rows, column, other, window)
    for spare in (0, 1, 7):
        begin = length - new - window - 1 - spare
        tail = replace(part(rows, begin), asked=np.arange(length - new, length) - begin)
        assert_same_bits(
            every_statistic(tail, column[begin:], other[begin:], window),
            {name: values[-new:] for name, values in whole.items()},
        )


def test_neighbours_in_the_same_table_change_nothing():
    """Bit for bit, whatever the entity before had, NaN and infinity included."""
    values = drawn([30], 5, 0)
    alone = every_statistic(rows_of([30]), values, values, 7)
    before = np.r_[np.full(10, np.nan), np.inf, 1e300, np.zeros(8)]
    with np.errstate(all="ignore"):
        both = np.r_[before, values]
        beside = every_statistic(rows_of([20, 30]), both, both, 7)
    assert_same_bits({name: found[20:] for name, found in beside.items()}, alone)


def test_a_statistic_of_a_statistic_needs_the_inner_one_everywhere():
    rows = replace(rows_of([20]), asked=np.array([18, 19]))
    values = drawn([20], 1, 0)
    with pytest.raises(ValueError, match=r"2 values for 20 rows: .*rows\.everywhere"):
        rows.sum(rows.mean(values, 3), 4)
    for wrong in (rows.lag, rows.std):
        with pytest.raises(ValueError, match="2 values for 20 rows"):
            wrong(rows.mean(values, 3), 4)
    with pytest.raises(ValueError, match="2 values for 20 rows"):
        rows.now(rows.mean(values, 3))
    inner = rows.everywhere
    expected = inner.sum(inner.mean(values, 3), 4)[[18, 19]]
    np.testing.assert_array_equal(rows.sum(rows.everywhere.mean(values, 3), 4), expected)


def test_no_rows_give_no_values():
    rows = rows_of([])
    nothing = np.empty(0)
    assert {len(values) for values in every_statistic(rows, nothing, nothing, 3).values()} == {0}
    assert len(rows.newest(3)) == 0
