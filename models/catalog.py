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

# The chapter's three inputs; it feeds windows newest first and forgets the sigmoid. A batch of
# 1,024 with a rate to match takes a seventh of the time of its 32.
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
    max_epochs=20,
    patience=4,
    validation=52,
    test=52,
)

PAIR = ("level_change", "index_change")
MOVES = ("level_move", "index_move")
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
    learning_rate=2e-3,
    loss="mae",
    max_epochs=150,
    patience=25,
    validation=48,
    test=60,
    stand_ins=MACRO_STAND_INS,
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

RECIPES: dict[str, tuple[Recipe, ...]] = {
    "sp500_next_close": (SP500_NEXT_CLOSE,),
    "equity_week_direction": (EQUITY_WEEK_DIRECTION,),
    "macro_outlook": (MACRO_OUTLOOK,),
    "macro_path": (MACRO_PATH,),
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
