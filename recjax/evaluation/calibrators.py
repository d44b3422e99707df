"""From log-odds to probabilities that hold: fitted on validation, applied to what is judged.

Called by the evaluate stage, seed by seed, as `config.evaluate.calibration` says. numpy and scipy
only.
"""

from collections.abc import Callable

import numpy as np
from scipy.optimize import isotonic_regression, minimize_scalar
from scipy.special import expit

Calibrator = Callable[[np.ndarray], np.ndarray]  # log-odds float [...] -> probability


def fit_calibrator(method: str, labels: np.ndarray, logits: np.ndarray) -> Calibrator:
    """Returns a calibrator fitted on validation.

    Args:
        method: "none", "temperature" or "isotonic".
        labels: [N], 0 or 1.
        logits: float [N], log-odds.

    Raises:
        ValueError: for another method.
    """
    if method == "none":
        return expit
    if method == "temperature":
        factor = fit_temperature(labels, logits)
        return lambda x: expit(factor * x)
    if method == "isotonic":
        return fit_isotonic(labels, logits)
    raise ValueError(f"calibration {method!r} is unknown; known: none, temperature, isotonic")


def fit_temperature(labels: np.ndarray, logits: np.ndarray) -> float:
    """Returns the factor of the log-odds that makes labels likeliest; below 1 tempers them.

    Args:
        labels: [N], 0 or 1; of validation, never of what is judged.
        logits: float [N], log-odds.

    Reference:
        Guo et al. (2017), "On Calibration of Modern Neural Networks", Sec. 4.2 (the factor is one
        over their temperature).
    """
    labels, logits = np.asarray(labels, np.float64), np.asarray(logits, np.float64)

    def loss(log_factor: float) -> float:
        scaled = np.exp(log_factor) * logits
        return float((np.logaddexp(0, scaled) - labels * scaled).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-4, 4), method="bounded").x))


def fit_isotonic(labels: np.ndarray, logits: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function log-odds float [...] -> probability, rising and likeliest on the labels.

    It is linear between the steps of the fit and never says 0 or 1: each end counts one row more of
    the other kind.

    Args:
        labels: [N], 0 or 1; of validation, never of what is judged.
        logits: float [N], log-odds.

    Reference:
        Zadrozny and Elkan (2002), "Transforming Classifier Scores into Accurate Multiclass
        Probability Estimates".
    """
    order = np.argsort(logits, kind="stable")
    where, place = np.unique(np.asarray(logits, np.float64)[order], return_inverse=True)
    count = np.bincount(place).astype(np.float64)
    rate = np.bincount(place, np.asarray(labels, np.float64)[order]) / count
    fitted = isotonic_regression(rate, weights=count).x
    edge = 1 / (len(order) + 2)
    return lambda x: np.interp(x, where, np.clip(fitted, edge, 1 - edge))
