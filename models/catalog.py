"""The catalog of models: the recipes of each, the chapter's network among them."""

from __future__ import annotations

from datetime import date

from db.errors import UsageError
from models.recipes import Recipe

# The chapter's network, batch, optimizer and patience. Measured (cut-offs end of 2014,
# 2016, 2018): with Keras' learning rate of 0.001 the validation loss still falls at epoch
# 120; 0.002 is as good on validation after 80 epochs; with 0.004 one training in six stopped
# too early.
SP500_NEXT_CLOSE = Recipe(
    model="sp500_next_close",
    variant="chapter",
    view="sp500_close",
    task="level",
    description="close of the next session, index points",
    architecture="recurrent",
    layers={"units": [20]},
    scaling="minmax_series",
    learning_rate=2e-3,
    max_epochs=80,
    train_from=date(2010, 1, 4),
)

# A small network of what little there is to lean on: the index reverts after a week that moved
# far, the more so the wilder the month. It learns the growth over the last close and begins by
# forecasting none. Chosen on 2010-2014, trained on what lies before: RMSE 13.50 points against
# persistence's 13.55, IC of returns 0.105; with the bare returns, or the week alone, 0.05-0.08.
SP500_WEEK = Recipe(
    model="sp500_next_close",
    variant="week",
    view="sp500_week",
    task="level",
    description="close of the next session, index points",
    architecture="recurrent",
    layers={"cell": "GRU", "units": [8], "dropout": 0.4, "start_at_zero": True},
    features=("week_by_volatility",),
    learns="growth",
    optimizer="adam",
    learning_rate=1e-3,
    weight_decay=1e-2,
    clipnorm=1.0,
    batch_size=256,
    max_epochs=60,
    patience=15,
    validation=504,
)

# The chapter's three inputs; it feeds windows newest first and forgets the sigmoid. Batches of
# 1,024 with a rate to match, where it has 32 (`python -m benchmarks.training` puts both side by
# side); an epoch of a million windows takes minutes, so there are few of them.
EQUITY_WEEK_DIRECTION = Recipe(
    model="equity_week_direction",
    variant="chapter",
    view="equity_weekly_return",
    task="direction",
    description="probability that next week's total return is positive",
    architecture="recurrent",
    layers={
        "units": [25, 10],
        "dropout": 0.2,
        "embedding": 10,
        "dense": [10],
        "output_activation": "sigmoid",
    },
    symbols=True,
    months=True,
    learns="up",
    optimizer="adam",
    learning_rate=3e-3,
    loss="binary_crossentropy",
    batch_size=1024,
    max_epochs=6,
    patience=2,
    validation=52,
    test=52,
)

# A stock's place among the others, in its returns of the week and of the week's last session and
# in its volatility; the order of the next returns is what it learns. Four weeks are read as
# one step: as good as single weeks (rank IC 0.061 against 0.059 on 2012-14, trained on 2008-11)
# in a sixth of the time.
EQUITY_CROSS_SECTION = Recipe(
    model="equity_week_direction",
    variant="cross_section",
    view="equity_weekly_cross_section",
    task="direction",
    description="order of next week's total returns",
    architecture="recurrent",
    layers={
        "cell": "GRU",
        "units": [24],
        "patch": 4,
        "dropout": 0.2,
        "dense": [32],
        "dense_activation": "relu",
        "dense_dropout": 0.2,
    },
    features=tuple(
        f"{name}_{kind}" for kind in ("rank", "z") for name in ("week", "session", "volatility")
    ),
    learns="rank",
    scaling="none",
    optimizer="adam",
    learning_rate=3e-3,
    clipnorm=1.0,
    schedule="cosine",
    batch_size=1024,
    max_epochs=4,
    patience=4,
    validation=52,
    test=52,
)

PAIR = ("level_change", "index_change")
MOVES = ("level_move", "index_move")
# Production is not seasonally adjusted.
SEASONAL = ("index_move",)
MACRO_STAND_INS = {"sample": "macro_annual_change_sample"}

MACRO_OUTLOOK = Recipe(
    model="macro_outlook",
    variant="chapter",
    view="macro_annual_change",
    task="changes",
    description="changes over 12 months of both series of the pair, next month",
    architecture="recurrent",
    layers={"units": [12, 6], "dropout": 0.2, "recurrent_dropout": 0.2, "dense": [10]},
    features=PAIR,
    targets=PAIR,
    moves=MOVES,
    seasonal=SEASONAL,
    learning_rate=2e-3,
    loss="mae",
    max_epochs=150,
    patience=25,
    validation=48,
    test=60,
    stand_ins=MACRO_STAND_INS,
)

# Learns the change from what is known already of next month's: twelve months of moves without
# the oldest, and the season. On 2005-2009, trained on what lies before: MASE 1.02 and 1.04
# against 1.27 and 1.05 of the VAR, 1.07 and 1.16 of that start alone.
MACRO_MOVES = MACRO_OUTLOOK.with_changes(
    variant="moves",
    layers={
        "cell": "GRU",
        "units": [8],
        "bidirectional": True,
        "dropout": 0.4,
        "start_at_zero": True,
    },
    features=MOVES,
    months=True,
    learns="change",
    optimizer="adam",
    learning_rate=5e-3,
    weight_decay=1e-2,
    clipnorm=1.0,
    loss="huber",
    batch_size=32,
)

# The chapter describes this network and does not build it.
MACRO_PATH = Recipe(
    model="macro_path",
    variant="chapter",
    view="macro_annual_change",
    task="path",
    description="changes over 12 months of both series of the pair, 1 to 12 months ahead",
    architecture="recurrent",
    layers={
        "cell": "GRU",
        "units": [16],
        "decoder": True,
        "attention": "additive",
        "teacher_forcing": 0.5,
    },
    features=PAIR,
    targets=PAIR,
    moves=MOVES,
    seasonal=SEASONAL,
    steps=12,
    optimizer="adam",
    learning_rate=2e-3,
    loss="mae",
    batch_size=32,
    max_epochs=150,
    patience=25,
    validation=48,
    test=60,
    stand_ins=MACRO_STAND_INS,
)

# As MACRO_MOVES, twelve months on: there is little to learn beyond the start (MASE 2.19 and
# 4.01 on 2005-2009 with a network, 2.19 and 4.06 without; the VAR 2.66 and 3.91).
MACRO_PATH_MOVES = MACRO_PATH.with_changes(
    variant="moves",
    layers={
        "cell": "GRU",
        "units": [16],
        "bidirectional": True,
        "dropout": 0.4,
        "decoder": True,
        "attention": "additive",
        "teacher_forcing": 0.5,
        "start_at_zero": True,
    },
    features=MOVES,
    learns="change",
    learning_rate=5e-3,
    weight_decay=1e-2,
    clipnorm=1.0,
    loss="huber",
    max_epochs=60,
    patience=15,
)

# The first is what a night trains where there is no champion, the last the chapter's.
RECIPES: dict[str, tuple[Recipe, ...]] = {
    "sp500_next_close": (SP500_WEEK, SP500_NEXT_CLOSE),
    "equity_week_direction": (EQUITY_CROSS_SECTION, EQUITY_WEEK_DIRECTION),
    "macro_outlook": (MACRO_MOVES, MACRO_OUTLOOK),
    "macro_path": (MACRO_PATH_MOVES, MACRO_PATH),
}


def recipes(model: str, profile: str = "") -> tuple[Recipe, ...]:
    """The recipes of a model, on the views that a profile has for it.

    The first one is what a night trains where there is no champion yet.

    Raises
    ------
    UsageError
        The catalog has no such model.
    """
    if model not in RECIPES:
        raise UsageError(f"no model {model!r}; the catalog has: {', '.join(sorted(RECIPES))}")
    return tuple(recipe.for_profile(profile) for recipe in RECIPES[model])


def recipe(model: str, variant: str = "chapter", profile: str = "") -> Recipe:
    """One recipe of a model.

    Raises
    ------
    UsageError
        The catalog has no such model, or it has no such variant.
    """
    found = {recipe.variant: recipe for recipe in recipes(model, profile)}
    if variant not in found:
        raise UsageError(f"model {model} has no recipe {variant!r}, only {', '.join(found)}")
    return found[variant]
