"""Several processes on one or many machines; the only user of Dask's `distributed`.

`connecting` finds or starts the workers, `running` gives them tasks, `tasks` is the part that
runs on a worker. Nothing in here knows what a task does.
"""

from berg.cluster.connecting import connect
from berg.cluster.running import Cluster, Failure, WorkerInfo
from berg.cluster.tasks import tell

__all__ = ["Cluster", "Failure", "WorkerInfo", "connect", "tell"]
