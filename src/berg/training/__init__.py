"""Model building: from a copy of the Natural Scenes Dataset to tested weights."""

from importlib.util import find_spec

from berg.errors import MissingExtraError

if _missing := [name for name in ("filelock", "psutil") if find_spec(name) is None]:
    raise MissingExtraError(
        "model building needs packages that are not installed",
        got=f"no {', '.join(_missing)}",
        do='pip install "berg[nsd]"',
    )

from berg.training.accuracy import TestedSubject, evaluate
from berg.training.building import TrainedSubject, train
from berg.training.parallel import train_in_parallel

__all__ = ["TestedSubject", "TrainedSubject", "evaluate", "train", "train_in_parallel"]
