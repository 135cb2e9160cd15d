"""The kinds of models that can be trained: made unfitted, fitted by fit.py, read back as trees."""

from typing import Final

VOTERS: Final = ("forest", "logistic", "xgboost", "lightgbm")
"""Families that stand alone, in the order in which they vote; the names of _forest.KINDS."""

FAMILIES: Final = (*VOTERS, "vote")

TITLES: Final = {
    "forest": "Random forest",
    "logistic": "Logistic regression",
    "xgboost": "XGBoost",
    "lightgbm": "LightGBM",
    "vote": "Majority vote of random forest, logistic regression, XGBoost and LightGBM",
}

_ALWAYS: Final = ("numpy", "scikit-learn")
LIBRARIES: Final = {
    "forest": _ALWAYS,
    "logistic": _ALWAYS,
    "xgboost": (*_ALWAYS, "xgboost-cpu"),
    "lightgbm": (*_ALWAYS, "lightgbm"),
    "vote": (*_ALWAYS, "xgboost-cpu", "lightgbm"),
}
"""Distributions whose versions decide what is trained."""
