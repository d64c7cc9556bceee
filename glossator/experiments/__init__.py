"""Experiments with features: on a live subject, or on a planted function of the text."""

from glossator.experiments.inside_subject import SubjectInside
from glossator.experiments.nearest import SubjectNearest
from glossator.experiments.of_function import FunctionLive, live_function
from glossator.experiments.of_subject import Experiments, SubjectLive

__all__ = [
    "Experiments",
    "FunctionLive",
    "SubjectInside",
    "SubjectLive",
    "SubjectNearest",
    "live_function",
]
