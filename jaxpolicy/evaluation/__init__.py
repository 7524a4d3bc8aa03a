"""Closed-loop evaluation, statistics and reports (stage 6)."""

from jaxpolicy.evaluation.config import EvaluationConfig

__all__ = ["EvaluationConfig"]
