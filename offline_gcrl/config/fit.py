"""Whether the settings of an agent fit the dataset, relabelling and training."""

from dataclasses import dataclass
from pathlib import Path

from offline_gcrl.config.agents import PER_TASK, AgentSettings, algorithms_with, shown_agent
from offline_gcrl.config.goals import has_original_goals
from offline_gcrl.config.multitask import check_tasks_of
from offline_gcrl.config.reading import dotted
from offline_gcrl.config.recipes import Dataset
from offline_gcrl.config.relabelling import Relabel
from offline_gcrl.config.training import Train
from offline_gcrl.config.vision import Vision
from offline_gcrl.support.errors import SettingsError


def check_fit(
    settings: AgentSettings,
    train: Train,
    relabel: Relabel,
    dataset: Dataset,
    path: Path,
    key: tuple[str, ...] = (),
) -> None:
    """Check that the settings of an agent fit the dataset, relabelling and training.

    Args:
        settings: of the agent.
        train: settings of training.
        relabel: settings of relabelling.
        dataset: the dataset.
        path: file of the settings, for errors.
        key: key of the agent in the file; empty if the settings are no part of a file.

    Raises:
        SettingsError: naming file, key, expectation and remedy.
    """
    run = _Run(settings, train, relabel, dataset, path, key)
    run.check_mixtures()
    run.check_rewards()
    run.check_several_tasks()
    run.check_task_network()
    run.check_devices()
    run.check_language()
    run.check_images()
    run.check_resident_images()


@dataclass(frozen=True)
class _Run:
    """Everything that one agent learns from on one dataset; each check raises the error of its kind."""

    settings: AgentSettings
    train: Train
    relabel: Relabel
    dataset: Dataset
    path: Path
    key: tuple[str, ...]

    def error(self, message: str) -> SettingsError:
        """The error with a message about the file."""
        return SettingsError(f"{self.path}: {message}")

    def at(self, *names: str) -> str:
        """The key of a setting of the agent."""
        return dotted((*self.key, *names))

    def for_dataset(self, *names: str) -> str:
        """Where a setting of the agent for this dataset belongs; empty if the settings are no part of a file."""
        place = self.at("per_dataset", self.dataset.name, *names)
        return f" in {place}" if self.key else ""

    @property
    def agent(self) -> str:
        """The agent as errors name it."""
        return shown_agent(self.settings, self.key)

    def check_mixtures(self) -> None:
        """Every strategy in an agent's mixtures must be in the hindsight table, and in the data."""
        goal = self.dataset.recipes[0].goal
        for name, mixture in self.settings.goal_mixtures.items():
            for strategy in mixture:
                if strategy == "original" and not has_original_goals(goal):
                    raise self.error(
                        f"{self.at(name)}: 'original' needs original goals in the data and a success test other than "
                        f"'same_step', which '{self.dataset.name}' does not have; set hindsight goals"
                        f"{self.for_dataset(name)}, or leave the agent out"
                    )
                if strategy not in {*self.relabel.strategies, "current", "original"}:
                    raise self.error(
                        f"{self.at(name)}: '{strategy}' is not in relabel.strategies; add it there"
                    )

    def check_rewards(self) -> None:
        """Rewards that are distances need goals with a distance, and an agent that can learn from them."""
        success, reward = self.dataset.recipes[0].goal.success, self.relabel.reward
        sampling = self.settings.batch_sampling
        if reward == "sparse":
            return
        if reward == "dense" and not success.has_distance:
            raise self.error(
                f"relabel.reward: 'dense' needs a success test by one distance, not '{success.kind}'"
            )
        if sampling.reward == "binary" and any("rewards" in field for field in sampling.fields):
            raise self.error(
                f"relabel.reward: the rewards of {self.agent} are 0 and 1, which needs 'sparse', not '{reward}'"
            )
        if sampling.representation_goals:
            raise self.error(
                f"relabel.reward: {self.at('goal_encoder')}: 'dual' learns numbers of steps, which needs 'sparse', not "
                f"'{reward}'"
            )
        for name, n_step in (
            ("n_step", sampling.n_step),
            ("dual.n_step", sampling.representation_n_step),
        ):
            if n_step > 1:
                raise self.error(
                    f"{self.at(name)}: must be 1 with relabel.reward '{reward}', not {n_step}"
                )

    def check_several_tasks(self) -> None:
        """Settings of multi-task training must fit the tasks of the dataset, and the agent."""
        settings, train, where = self.settings, self.train, self.agent
        names = [recipe.task for recipe in self.dataset.recipes]
        snapshots = len(train.snapshot_updates)
        check_tasks_of(train.tasks, train.sequence, names, snapshots, self.dataset.name, self.path)
        if len(names) > 1 and settings.batch_sampling.initial_states == "any":
            raise self.error(
                f"{self.at('initial_states')}: 'any' draws initial states of all tasks, also for the goals of one task; "
                f"set 'episode'{self.for_dataset('initial_states')}"
            )
        if train.tasks and train.tasks.sampling == "uncertainty" and not settings.has_ensemble:
            raise self.error(
                "train.tasks.sampling: 'uncertainty' is measured by the disagreement of two values or critics, "
                f"and {where} does not have two; use 'performance' or 'gradient', or one of the algorithms "
                f"{', '.join(algorithms_with('has_ensemble'))} (ddpg with critics: 2)"
            )
        if train.tasks and train.tasks.gradients == "gradnorm" and not settings.has_positive_loss:
            raise self.error(
                f"train.tasks.gradients: 'gradnorm' divides losses by initial losses, and the loss of {where} "
                "can be negative; use another value of 'gradients', or one of the algorithms "
                f"{', '.join(algorithms_with('has_positive_loss'))} (crl and gciql with actor_loss 'awr')"
            )
        if train.sequence and train.sequence.method == "heads" and settings.task_network != "heads":
            raise self.error(
                f"train.sequence.method: 'heads' freezes output layers per task, and {where} has none; "
                f"set {self.at('task_network')}: heads"
            )

    def check_task_network(self) -> None:
        """Networks with parts per task need several tasks."""
        network = self.settings.task_network
        if network in PER_TASK and len(self.dataset.recipes) == 1:
            raise self.error(
                f"{self.at('task_network')}: '{network}' needs several tasks, and '{self.dataset.name}' has one; set "
                f"'concatenate'{self.for_dataset()}, or name a suite"
            )

    def check_devices(self) -> None:
        """Gradients of parts of a batch must add up to that of the batch."""
        if self.train.devices > 1 and self.settings.has_batch_statistics:
            raise self.error(
                f"train.devices: the loss of {self.agent} has quantities of the complete batch (pairs of transitions, a "
                "mean of |Q|, a percentile or a log mean), which several devices do not have; set train.devices: 1, or "
                "other settings of the agent (gciql and qrl with actor_loss: awr, gofar with divergence: chi2, ddpg with "
                "bc_alpha: null, wgcsl with best_advantage_weight: false)"
            )

    def check_language(self) -> None:
        """Instructions need sentences in the recipe, and labels that are true or false."""
        if not self.settings.takes_instructions or len(self.dataset.recipes) > 1:
            return
        where, conditioning = self.at("conditioning"), self.settings.conditioning
        language = self.dataset.recipes[0].language
        if not (language and language.attributes):
            raise self.error(
                f"{where}: '{conditioning}' needs sentences, and the recipe '{self.dataset.name}' has no 'language' with "
                "attributes; add it, or use 'goal'"
            )
        if self.relabel.reward != "sparse":
            raise self.error(
                f"relabel.reward: a sentence is true or false, so '{conditioning}' in {where} needs 'sparse', not "
                f"'{self.relabel.reward}'"
            )

    def check_images(self) -> None:
        """Agents that see and rewards of images need images, and goals of which there are images."""
        where = self.at("images")
        if self.dataset.images is None:
            if self.relabel.reward == "embedding":
                raise self.error(
                    f"relabel.reward: 'embedding' compares images, and the recipe '{self.dataset.name}' has no 'images'; use "
                    "'sparse' or 'dense'"
                )
            if self.settings.images is not None:
                raise self.error(
                    f"{where}: the recipe '{self.dataset.name}' has no 'images'; add the section to the recipe, or leave "
                    "this one out"
                )
            return
        mixtures = self.settings.goal_mixtures.items()
        pursued = [name for name, mixture in mixtures if "original" in mixture]
        if pursued and (self.settings.images or Vision()).sees_goals:
            raise self.error(
                f"{self.at(pursued[0])}: there are no images of 'original' goals, which the behaviour pursued; "
                f"set hindsight goals{self.for_dataset(pursued[0])}, or {where}: {{goal: vector}}"
            )

    def check_resident_images(self) -> None:
        """Sets of data in memory have no images."""
        sees = (self.settings.images or Vision()).sees
        if self.train.data == "resident" and self.dataset.images and sees:
            raise self.error(
                "train.data: 'resident' does not apply to images, because a goal in another episode would be a copy of an "
                "image; set 'mapped', which reads the few images of a batch"
            )
