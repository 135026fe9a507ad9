"""Price breaks, judged by whether they persist.

A move that the symbol's own volatility does not justify is a *break*. What it is shows only
afterwards, so every break is a suspicion (``pending``) for a bounded number of sessions:

========= ============================================ ======== ==================
kind      what it is                                   broken?  what readers do
========= ============================================ ======== ==================
spike     prices leave their level and snap back       yes      quarantine its rows
split     persists at a simple ratio, trade unexcited  yes      no window across it
level     persists, and no market makes such a move    yes      no window across it
jump      persists, and the market reacts to it        no       nothing: it is real
pending   too early to say                             unknown  nothing is decided
========= ============================================ ======== ==================

A verdict uses rows up to its `resolved_session` and none after it, and is never taken back, so
the panel cut at any session gives the same resolved rows as the whole one.

Notes
-----
The numbers below were chosen on the 4,154 symbols of the reference panel outside the 72
hand-labelled ones (`tests/db/quality/break_labels.csv`), where a second source says of a weekly
move whether it took place. Of 654 breaks it confirms, 7 are judged broken (1 %). Of 29 it denies
(one symbol that flips for months aside), only the large ones are caught (4): the rest are small
persistent ratios (spin-offs, special dividends, stale quotes) that look like real moves.

Prices alone cannot tell a halving from a 2:1 split: real crashes of -50 % with a calm
aftermath outnumber missed splits. So a small ratio is called a split only for a quiet stock,
and a fall needs stronger evidence than a rise. Volume, where given, decides better: news is
traded, a missed split is not. `python -m benchmarks.price_breaks` prints the error of the choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

Kind = Literal["spike", "split", "level", "jump", "pending"]

# The kinds that no window may use: a spike's rows, and the point of a split or level.
BROKEN: frozenset[Kind] = frozenset({"spike", "split", "level"})
COLUMNS = ("entity", "session", "kind", "ratio", "until_session", "resolved_session", "reason")

# Look-forward in sessions of the symbol: two weeks. Bad prints are corrected within days, and
# ten returns are the fewest that estimate the volatility after the move to about a quarter.
LOOK_FORWARD = 10

# Volatility known before the move: mean absolute return of the last 60 sessions, each one
# clipped so that an earlier break does not hide the next, shrunk towards 2 % a session (the
# panel's average) with the weight of 10 sessions: short and stale histories get a sane value.
VOLATILITY_SESSIONS = 60
CLIPPED_RETURN = 0.25
PRIOR_RETURN = 0.02
PRIOR_SESSIONS = 10
# A run under way is no surprise: the median of the last 5 absolute returns counts too.
RUN_SESSIONS = 5
TO_SIGMA = float(np.sqrt(np.pi / 2))  # E|x| to standard deviation, normal

# A break is a move of 8 sigma and of at least 40 % in log terms (+49 %, -33 %): 1.2 a symbol
# in twelve years.
BREAK_SIGMAS = 8.0
BREAK_MOVE = 0.4
# Up to four ticks of the quote are no break: a cent quoted at one, then at five ticks.
TICKS = 4
TICK_TRADES = 5  # price changes needed to know a symbol's tick

# A spike ends with one move back that undoes most of the first and lands at the old level.
# Real one-day manias below a factor of three do that too, unless the symbol is quiet.
SPIKE_CLOSING = 0.6
SPIKE_RETURN = 0.25
SPIKE_SIGMAS = 20.0
SPIKE_MOVE = float(np.log(3))

# An unexcited market: volatility after the move is no more than 1.2 times that before it.
# After a rise, 3 % a session counts as unexcited too: only falls were seen to be that calm.
CALM_RATIO = 1.2
CALM_SIGMA = 0.03
# A take-over pins the price: volatility after the move falls below a quarter.
PINNED_RATIO = 0.25

# 3:2 is left out: real moves of that size are far more frequent than such splits missed.
SPLIT_FACTORS = (*range(2, 11), 12, 15, 20, 25, 30, 40, 50)
SPLIT_SIGMAS = 25.0  # the whole move
SPLIT_RESIDUAL = 2.0  # sigmas of the return that is left once the ratio is taken out
# A calm persistent move is a wrong level from 3.5-fold (rise) and a tenth (fall) on: confirmed
# calm falls reach 1/6, confirmed calm rises 3-fold (PBYI 2014-07-23, 3.95-fold and real, has a
# calm ratio of 1.204: a near miss).
LEVEL_RISE = float(np.log(3.5))
LEVEL_FALL = float(np.log(10))
# No market makes it: twice the largest one-session move with a known reason in the panel
# (25.8-fold, a bankrupt company's test was cleared, 2009-09-11).
LEVEL_ALWAYS = float(np.log(50))

# News trades at least five times the usual volume (in shares of the new count).
NEWS_VOLUME = 5.0
VOLUME_SESSIONS = 20

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Panel:
    """Valid prices of all symbols, one after the other; n rows.

    Attributes
    ----------
    rows : position in the caller's frame, (n,).
    start, end : first row of the row's symbol and one past its last, (n,).
    price : (n,).
    level : log price less the logs of all known actions so far, (n,).
    move : change of `level` to the row before; NaN on a symbol's first row, (n,).
    volume : (n,) or None.
    """

    rows: Indices
    start: Indices
    end: Indices
    price: Floats
    level: Floats
    move: Floats
    volume: Floats | None

    def around(self, values: Floats, at: Indices, first: int, last: int) -> Floats:
        """Values from row `at + first` to `at + last` of the same symbol, NaN outside it.

        Shape (len(at), last - first + 1).
        """
        index = at[:, None] + np.arange(first, last + 1)[None, :]
        inside = (index >= self.start[at, None]) & (index < self.end[at, None])
        taken = values[np.clip(index, 0, len(values) - 1)]
        return np.where(inside, taken, np.nan)


def judge_breaks(
    frame: pd.DataFrame,
    *,
    price: str = "close",
    split_ratio: str | None = None,
    volume: str | None = None,
) -> pd.DataFrame:
    """Every break of a price panel with its verdict.

    Parameters
    ----------
    frame : pd.DataFrame
        Columns `entity` (str or categorical), `session` (datetime64) and the price, rows sorted
        by entity and session. Missing and non-positive prices are passed over.
    price : str
        The column to judge, in any currency; adjusted or raw.
    split_ratio : str, optional
        Column with the ratio of price to previous price that a known corporate
        action explains on that row (0.5 for a 2:1 split); missing means none. What it explains
        is no break; what it claims and the price does not do is one.
    volume : str, optional
        Column with shares traded; tells a missed split from news.

    Returns
    -------
    pd.DataFrame
        One row per break, in the order of the frame: `entity`; `session`, the first at the new
        price; `kind` (see the module); `ratio`, price over previous price; `until_session`, a
        spike's last session, else NaT; `resolved_session`, the first session whose close
        allows the verdict, NaT while pending; `reason`, one line.

    Raises
    ------
    ValueError
        If the rows are not sorted by entity and session.
    """
    panel = _panel(frame, price, split_ratio, volume)
    at, sigma, surprise = _find_breaks(panel)
    last, closing = _find_spikes(panel, at, sigma, surprise)
    keep = ~np.isin(at, closing)  # the move back belongs to its spike
    at, sigma, surprise, last = at[keep], sigma[keep], surprise[keep], last[keep]
    verdicts = _judge(panel, at, sigma, surprise, last)
    return _report(frame, panel, at, verdicts)


def _panel(frame: pd.DataFrame, price: str, split_ratio: str | None, volume: str | None) -> _Panel:
    entity = frame["entity"]
    codes = (
        entity.cat.codes.to_numpy()
        if isinstance(entity.dtype, pd.CategoricalDtype)
        else pd.factorize(entity)[0]
    )
    _require_sorted(codes, frame["session"])

    prices = frame[price].to_numpy(dtype=np.float64, na_value=np.nan)
    rows = np.flatnonzero(np.isfinite(prices) & (prices > 0)).astype(np.int64)
    kept = prices[rows]
    level = np.log(kept)
    if split_ratio is not None:
        known = frame[split_ratio].to_numpy(dtype=np.float64, na_value=np.nan)
        usable = np.isfinite(known) & (known > 0)
        level -= np.cumsum(np.log(np.where(usable, known, 1.0)))[rows]

    symbol = codes[rows]
    first = np.flatnonzero(np.r_[True, symbol[1:] != symbol[:-1]]) if len(rows) else rows
    length = np.diff(np.r_[first, len(rows)])
    move = np.diff(level, prepend=level[:1])
    move[first] = np.nan
    return _Panel(
        rows=rows,
        start=np.repeat(first, length),
        end=np.repeat(first + length, length),
        price=kept,
        level=level,
        move=move,
        volume=(
            None
            if volume is None
            else frame[volume].to_numpy(dtype=np.float64, na_value=np.nan)[rows]
        ),
    )


def _require_sorted(codes: npt.NDArray[np.integer], sessions: pd.Series) -> None:
    new = codes[1:] != codes[:-1]
    later = sessions.diff().to_numpy()[1:] > np.timedelta64(0)
    grouped = int(new.sum()) + min(len(codes), 1) == len(np.unique(codes))
    if not grouped or not (new | later).all():
        raise ValueError("judge_breaks: rows must be sorted by entity and session, one each")


def _find_breaks(panel: _Panel) -> tuple[Indices, Floats, Floats]:
    """Rows, volatility known before, and size in sigmas of the moves it does not justify."""
    at = np.flatnonzero(np.abs(panel.move) >= BREAK_MOVE).astype(np.int64)
    sigma = _volatility_before(panel, at)
    run = np.abs(panel.around(panel.move, at, -RUN_SESSIONS, -1))
    run_sigma = TO_SIGMA * np.minimum(np.median(run, axis=1), CLIPPED_RETURN)
    surprise = np.abs(panel.move[at]) / np.fmax(sigma, run_sigma)
    chosen = (surprise >= BREAK_SIGMAS) & ~_is_tick_noise(panel, at)
    return at[chosen], sigma[chosen], surprise[chosen]


def _volatility_before(panel: _Panel, at: Indices) -> Floats:
    """Standard deviation of a session's log return, from returns before each row: (len(at),)."""
    before = np.minimum(
        np.abs(panel.around(panel.move, at, -VOLATILITY_SESSIONS, -1)), CLIPPED_RETURN
    )
    known = np.isfinite(before)
    total = np.where(known, before, 0.0).sum(axis=1) + PRIOR_SESSIONS * PRIOR_RETURN
    sigma: Floats = TO_SIGMA * total / (known.sum(axis=1) + PRIOR_SESSIONS)
    return sigma


def _is_tick_noise(panel: _Panel, at: Indices) -> Flags:
    """Moves of a few ticks, where prices before show what a tick is: (len(at),)."""
    before = panel.around(panel.price, at, -VOLATILITY_SESSIONS, -1)
    steps = np.abs(np.diff(before, axis=1))
    steps = np.where(steps > 1e-6 * before[:, 1:], steps, np.nan)  # below float32 is no step
    traded = np.isfinite(steps).sum(axis=1) >= TICK_TRADES
    tick = np.where(np.isfinite(steps), steps, np.inf).min(axis=1, initial=np.inf)

    now, previous = panel.price[at] / tick, panel.price[at - 1] / tick
    on_grid = (np.abs(now - np.rint(now)) < 0.02) & (np.abs(previous - np.rint(previous)) < 0.02)
    noise: Flags = traded & on_grid & (np.abs(now - previous) < TICKS + 0.5)
    return noise


def _find_spikes(
    panel: _Panel, at: Indices, sigma: Floats, surprise: Floats
) -> tuple[Indices, Indices]:
    """Last row of each break that is a spike (-1: none), and the rows of the moves back."""
    move = panel.move[at]
    size = np.abs(move)[:, None]
    ahead = panel.around(panel.level, at, 1, LOOK_FORWARD) - panel.level[at - 1, None]
    step = panel.around(panel.move, at, 1, LOOK_FORWARD)

    tolerance = np.maximum(SPIKE_RETURN * size, 3 * sigma[:, None])
    is_back = (np.abs(ahead) <= tolerance) & (
        -step * np.sign(move)[:, None] >= SPIKE_CLOSING * size
    )
    first_back = np.argmax(is_back, axis=1)
    unreal = (surprise >= SPIKE_SIGMAS) | (np.abs(move) >= SPIKE_MOVE)
    is_spike = is_back.any(axis=1) & unreal
    last = np.where(is_spike, at + first_back, -1)
    return last, last[is_spike] + 1


def _judge(
    panel: _Panel, at: Indices, sigma: Floats, surprise: Floats, last: Indices
) -> pd.DataFrame:
    """Verdict of each break, len(at) rows.

    `kind`; `surprise` (sigmas); `last` (a spike's last row, else -1); `factor` (nearest split
    factor); `calm` (volatility after over volatility before).
    """
    move = panel.move[at]
    size = np.abs(move)
    after = np.minimum(np.abs(panel.around(panel.move, at, 1, LOOK_FORWARD)), CLIPPED_RETURN)
    sigma_after = TO_SIGMA * after.mean(axis=1)  # NaN until all sessions are there
    calm = sigma_after / sigma

    unexcited = (calm <= CALM_RATIO) | ((move > 0) & (sigma_after <= CALM_SIGMA))
    unexcited &= ~_is_news(panel, at)
    factors = np.log(np.array(SPLIT_FACTORS, dtype=np.float64))
    distance = np.abs(size[:, None] - factors[None, :])
    nearest = np.argmin(distance, axis=1)
    is_split = unexcited & (calm >= PINNED_RATIO) & (surprise >= SPLIT_SIGMAS)
    is_split &= distance.min(axis=1) <= SPLIT_RESIDUAL * sigma
    is_level = unexcited & (size >= np.where(move > 0, LEVEL_RISE, LEVEL_FALL))

    kind = np.full(len(at), "jump", dtype=object)
    kind[is_level] = "level"
    kind[is_split] = "split"
    kind[size >= LEVEL_ALWAYS] = "level"
    kind[at + LOOK_FORWARD >= panel.end[at]] = "pending"
    kind[last >= 0] = "spike"
    return pd.DataFrame(
        {
            "kind": kind.astype(str),
            "surprise": surprise,
            "last": last,
            "factor": np.exp(factors[nearest]),
            "calm": calm,
        }
    )


def _is_news(panel: _Panel, at: Indices) -> Flags:
    """Whether the move was traded far above usual volume; False where volume is unknown."""
    if panel.volume is None:
        return np.zeros(len(at), dtype=bool)
    before = panel.around(panel.volume, at, -VOLUME_SESSIONS, -1)
    known = np.where(np.isfinite(before), before, 0.0)
    usual = np.median(known, axis=1) / np.exp(panel.move[at])  # shares after a split
    news: Flags = panel.volume[at] > NEWS_VOLUME * usual
    return news


def _report(
    frame: pd.DataFrame, panel: _Panel, at: Indices, verdicts: pd.DataFrame
) -> pd.DataFrame:
    session = frame["session"].to_numpy()
    last = verdicts["last"].to_numpy()
    is_spike = (verdicts["kind"] == "spike").to_numpy()
    is_resolved = (verdicts["kind"] != "pending").to_numpy()
    resolved = np.where(is_spike, last + 1, at + LOOK_FORWARD)
    rows = pd.DataFrame(
        {
            "entity": frame["entity"].take(panel.rows[at]).reset_index(drop=True),
            "session": session[panel.rows[at]],
            "kind": verdicts["kind"],
            "ratio": panel.price[at] / panel.price[at - 1],
            "until_session": _sessions_at(session, panel, last, is_spike),
            "resolved_session": _sessions_at(session, panel, resolved, is_resolved),
        }
    )
    reasons = [
        _reason(kind, ratio, surprise, length=length, factor=factor, calm=calm)
        for kind, ratio, surprise, length, factor, calm in zip(
            rows["kind"],
            rows["ratio"],
            verdicts["surprise"],
            last - at + 1,
            verdicts["factor"],
            verdicts["calm"],
            strict=True,
        )
    ]
    return rows.assign(reason=pd.Series(reasons, dtype=str))[list(COLUMNS)]


def _sessions_at(
    session: npt.NDArray[np.generic], panel: _Panel, at: Indices, known: Flags
) -> npt.NDArray[np.generic]:
    """Session of each row where it is known, NaT elsewhere."""
    result = np.full(len(at), np.datetime64("NaT"), dtype=session.dtype)
    result[known] = session[panel.rows[at[known]]]
    return result


def _reason(
    kind: Kind, ratio: float, surprise: float, *, length: int, factor: float, calm: float
) -> str:
    move = f"{ratio:.4g}-fold, {surprise:.0f} sigma"
    if kind == "pending":
        return f"{move}; fewer than {LOOK_FORWARD} sessions since"
    if kind == "spike":
        return f"{move}; back at the old level after {length} session(s)"
    aftermath = f"volatility after it {calm:.1f} times that before"
    if kind == "split":
        return f"{move}; stays near {factor:g}:1, {aftermath}: a split not applied"
    if kind == "level":
        if abs(np.log(ratio)) >= LEVEL_ALWAYS:
            return f"{move}; stays, beyond any real move of a session"
        return f"{move}; stays, {aftermath}: not news"
    return f"{move}; stays or fades, {aftermath}"
