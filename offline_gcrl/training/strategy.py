"""Lightning's strategy for ranks, which is apart from them because importing Lightning takes seconds."""

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy

from offline_gcrl.training.ranks import Ranks


class ExplicitDDP(DDPStrategy):
    """Lightning's strategy for processes that exist already, without its hooks on gradients."""

    def __init__(self, ranks: Ranks) -> None:
        super().__init__(cluster_environment=_Joined(ranks))

    def configure_ddp(self) -> None:
        """Leave the module as it is: the updaters average gradients."""


class _Joined(ClusterEnvironment):
    """Processes that have joined already."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks

    creates_processes_externally = True
    main_address, main_port = "127.0.0.1", 0  # The ranks have met already.

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self.ranks.world

    def set_world_size(self, size: int) -> None:
        pass

    def global_rank(self) -> int:
        return self.ranks.rank

    def set_global_rank(self, rank: int) -> None:
        pass

    def local_rank(self) -> int:
        return self.ranks.rank

    def node_rank(self) -> int:
        return 0
