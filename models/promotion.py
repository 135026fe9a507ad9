"""Promotion: which version of a model scores from now on, and why.

All contenders are measured on the same examples of one span that none of them has learned
from. A network has to beat the best baseline there; of those that do, the best one is put
beside the champion, and takes its place unless it is worse beyond noise. Where no network
beats the baselines, the best of these is champion, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from db.errors import TrainingError
from models.artefacts import Kind
from models.evaluation import worse_beyond_noise


@dataclass(frozen=True)
class Contender:
    """A version with its losses on the span that decides.

    Attributes
    ----------
    version : model_versions.model_version.
    kind : `network` or `baseline`.
    losses : mean loss of each date (`models.tasks.losses`) or text, the same for all; one
        that is not finite disqualifies.
    """

    version: str
    kind: Kind
    losses: pd.Series[float]

    @property
    def loss(self) -> float:
        """Mean over the dates."""
        return float(self.losses.mean())

    @property
    def is_finite(self) -> bool:
        """Whether every forecast was a finite number."""
        return bool(np.isfinite(self.losses).all())


@dataclass(frozen=True)
class Verdict:
    """Who is champion from now on, and why."""

    version: str
    reason: str


def judge(
    contenders: Sequence[Contender],
    champion: str | None,
    unit: str,
    overlap: int = 1,
    counted: str = "dates",
) -> Verdict:
    """Decide between new versions and the champion.

    Parameters
    ----------
    contenders : sequence of Contender
        New networks and baselines, at least one, and the champion where it can be measured.
    champion : str, optional
        The version that scores now; None where there is none, or where it cannot score
        any more. It stays if it is not among the contenders.
    unit : str
        What a loss is, for the reason.
    overlap : int
        Periods that a label covers: neighbouring dates share them, so that noise is larger.
    counted : str
        What there is a loss of each, for the reason.

    Raises
    ------
    TrainingError
        No contender has a finite forecast.
    """
    fit = [contender for contender in contenders if contender.is_finite]
    if not fit:
        raise TrainingError("no version gives a finite forecast on the test span")
    measured = {contender.version for contender in contenders}
    if champion is not None and champion not in measured:
        return Verdict(champion, "no span that neither version has seen: the champion stays")
    best = _best(fit)
    incumbent = next((each for each in fit if each.version == champion), None)
    new = [each for each in fit if each.version != champion]
    if incumbent is None or (best.kind != incumbent.kind):
        return Verdict(best.version, _why(best, fit, unit, counted))
    challenger = _best(new)
    if challenger.kind != incumbent.kind:
        return Verdict(
            incumbent.version, f"the champion stays: {_why(incumbent, fit, unit, counted)}"
        )
    return _duel(challenger, incumbent, fit, unit, overlap, counted)


def _best(contenders: Sequence[Contender]) -> Contender:
    """The best network that beats every baseline, or else the best baseline."""
    ordered = sorted(contenders, key=lambda each: each.loss)
    baselines = [each for each in ordered if each.kind == "baseline"]
    networks = [each for each in ordered if each.kind == "network"]
    if networks and (not baselines or networks[0].loss < baselines[0].loss):
        return networks[0]
    return baselines[0] if baselines else ordered[0]


def _duel(
    challenger: Contender,
    incumbent: Contender,
    contenders: Sequence[Contender],
    unit: str,
    overlap: int,
    counted: str,
) -> Verdict:
    found = worse_beyond_noise(
        challenger.losses.to_numpy(),
        incumbent.losses.to_numpy(),
        incumbent.losses.index,
        overlap=overlap,
    )
    beside = (
        f"{unit} {challenger.loss:.4g} against the champion's {incumbent.loss:.4g} on "
        f"{found.n_dates} {counted} (difference {found.mean_difference:.2g}, "
        f"90 % interval {found.low:.2g} to {found.high:.2g})"
    )
    if found.low > 0:
        return Verdict(incumbent.version, f"the champion stays: {beside}, worse beyond noise")
    return Verdict(challenger.version, f"{_why(challenger, contenders, unit, counted)}; {beside}")


def _why(chosen: Contender, contenders: Sequence[Contender], unit: str, counted: str) -> str:
    """One line: how it stands to the best of the other kind."""
    networks = [each for each in contenders if each.kind == "network"]
    baselines = [each for each in contenders if each.kind == "baseline"]
    if chosen.kind == "network":
        if not baselines:
            return f"{unit} {chosen.loss:.4g}; no baseline to compare with"
        other = min(baselines, key=lambda each: each.loss)
        return (
            f"the network beats every baseline: {unit} {chosen.loss:.4g} against "
            f"{other.loss:.4g} of {other.version}, {len(chosen.losses)} {counted}"
        )
    if not networks:
        return f"the best baseline: {unit} {chosen.loss:.4g}, {len(chosen.losses)} {counted}"
    other = min(networks, key=lambda each: each.loss)
    return (
        f"no network beats this baseline: {unit} {chosen.loss:.4g} against "
        f"{other.loss:.4g} of {other.version}, {len(chosen.losses)} {counted}"
    )
