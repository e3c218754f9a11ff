"""Fit the steps of the encoding model: scaler, principal components, linear regression."""

from berg.fitting.components import FittedComponents, fit_components, project
from berg.fitting.regression import fit_regression, regression_from_products, regression_rows
from berg.fitting.ridge import DEFAULT_PENALTIES, fit_ridge, validation_rows

__all__ = [
    "DEFAULT_PENALTIES",
    "FittedComponents",
    "fit_components",
    "fit_regression",
    "fit_ridge",
    "project",
    "regression_from_products",
    "regression_rows",
    "validation_rows",
]
