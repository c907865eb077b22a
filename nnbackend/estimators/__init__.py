"""Neural networks as scikit-learn's estimators; they work without it, too."""

from .mlp import MLPClassifier, MLPRegressor
from .wrapped import NeuralNetClassifier, NeuralNetRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "NeuralNetClassifier", "NeuralNetRegressor"]
