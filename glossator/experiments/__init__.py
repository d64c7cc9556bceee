"""Experiments with features: on a live subject, or on a planted function of the text."""

<<<<<<< HEAD
from glossator.experiments.nearest import SubjectNearest
from glossator.experiments.of_function import FunctionLive, live_function
from glossator.experiments.of_subject import Experiments, SubjectLive

__all__ = ["Experiments", "FunctionLive", "SubjectLive", "SubjectNearest", "live_function"]
=======
from glossator.experiments.inside_subject import SubjectInside
from glossator.experiments.of_function import FunctionLive, live_function
from glossator.experiments.of_subject import Experiments, SubjectLive

__all__ = ["Experiments", "FunctionLive", "SubjectInside", "SubjectLive", "live_function"]
>>>>>>> 9781a7857fb51a33b06c1bfc11100bbd8f87967b
