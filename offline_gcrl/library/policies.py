"""A policy that knows its recipe: it acts on observations of its environment, and makes that environment."""

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from offline_gcrl.config import (
    RESOLVED,
    Dataset,
    Environment,
    Goal,
    Recipe,
    Selection,
    Success,
    nearest,
)
from offline_gcrl.config import load_dataset as load_resolved
from offline_gcrl.config.outputs import DATASET, POLICY, TRAINING_CURVE
from offline_gcrl.environments.making import make_environment
from offline_gcrl.environments.selection import (
    as_tree,
    batch_size,
    evaluated_goal,
    has_key,
    select,
)
from offline_gcrl.evaluation.seen import Given
from offline_gcrl.library.folders import TemporaryFolder
from offline_gcrl.policies import policy as policies
from offline_gcrl.policies.policy import Policy, policy_file
from offline_gcrl.support.errors import DataError, PolicyError, message_of
from offline_gcrl.support.files import write_bytes

USUAL_KEYS = Goal(success=Success(kind="same_step"))
"""The keys of goal environments, for a policy without a recipe."""
SHOWN = ("dataset", "agent", "task", "seed", "updates")
"""What a policy shows of its training."""
READS = "pass the dict that a goal environment returns, or observation and goal"
SEES = (
    "the policy reads images: with eyes = policy.eyes(environment), pass eyes.observation(observation) and "
    "eyes.goal(observation['desired_goal'])"
)


@dataclass(frozen=True, repr=False)
class TrainedPolicy(Policy):
    """A policy with the dataset that it was trained on; ``train`` and ``load_policy`` return it."""

    dataset: Dataset | None = None
    """Tasks, goals and evaluation; None if nothing next to the policy's file says so."""
    file: Path | None = None
    """The file that the policy was loaded from."""
    content: bytes = b""
    """What the file contained then, so that neither ``save`` nor ``evaluate`` depends on what becomes of it."""
    curve_text: bytes | None = None
    """The training curve as CSV; None for a snapshot."""
    folder: TemporaryFolder | None = None
    """The temporary folder of the file, which exists as long as this object does."""

    def __repr__(self) -> str:
        known = [name for name in SHOWN if name in self.training]
        facts = ", ".join(f"{name}: {self.training[name]}" for name in known)
        return f"TrainedPolicy({self.algorithm}; {facts})"

    @property
    def recipe(self) -> Recipe:
        """The recipe of the first task, which is the only one unless the dataset is a suite.

        Raises:
            PolicyError: nothing next to the policy's file describes its dataset.
        """
        return self.recipe_of(None)

    @property
    def curve(self) -> pl.DataFrame:
        """The diagnostics of training: a column ``update``, and one per diagnostic.

        Raises:
            PolicyError: there was no curve next to the policy's file.
        """
        if self.curve_text is None:
            raise PolicyError(
                f"{self.file}: there was no {TRAINING_CURVE} next to it; a snapshot has no training curve"
            )
        return pl.read_csv(self.curve_text, infer_schema_length=None)

    def act(
        self,
        observation: ArrayLike | Mapping[str, Any],
        goal: ArrayLike | None = None,
        task: str | None = None,
        instruction: str | Sequence[str] | None = None,
    ) -> NDArray[np.float32]:
        """The policy's action, within the bounds of the action space.

        Args:
            observation: the dict that a goal environment returns, or (observation,), or (batch, observation).
            goal: (goal,) or (batch, goal); if left out, and no instruction is given, the goal in the dict.
            task: name of the task, for policies of several tasks that depend on it.
            instruction: a sentence, or one for each observation, for policies that take instructions.

        Returns:
            (action,) or (batch, action).

        Raises:
            PolicyError: a shape, key or task does not fit the policy, or the goal is missing.
        """
        state, desired, _ = self._parts(observation, goal, task, instruction)
        return super().act(state, desired, task, instruction)

    def value(
        self,
        observation: ArrayLike | Mapping[str, Any],
        goal: ArrayLike | None = None,
        task: str | None = None,
        achieved_goal: ArrayLike | None = None,
        instruction: str | Sequence[str] | None = None,
    ) -> NDArray[np.float32]:
        """The agent's value of being in a state with a goal, in the agent's own units; arguments as for ``act``.

        Raises:
            PolicyError: as ``act``; also if the policy has no value.
        """
        state, desired, achieved = self._parts(observation, goal, task, instruction)
        given = achieved if achieved_goal is None else achieved_goal
        return super().value(state, desired, task, given, instruction)

    def make_env(self, task: str | None = None, **settings: Any) -> gymnasium.Env[Any, Any]:
        """Make the environment that the policy is evaluated in.

        Args:
            task: the task of a suite; the first one if left out.
            settings: further arguments of ``gymnasium.make``, such as ``render_mode``.

        Raises:
            PolicyError: the policy has no recipe, or its recipe no environment.
        """
        return make_environment(self._environment(task), **settings)

    def eyes(self, environment: gymnasium.Env[Any, Any], task: str | None = None) -> Given:
        """What shows the policy an environment: ``observation`` and ``goal`` give vectors, images, or both.

        Args:
            environment: one that ``make_env`` returns; it is only read.
            task: the task of a suite; the first one if left out.

        Raises:
            PolicyError: the policy has no recipe, or sees, and the recipe has no images.
            RenderingError: this machine cannot render images.
        """
        recipe, settings = self.recipe_of(task), self._environment(task)
        return Given(environment, self, recipe.goal.observation, settings, recipe.images)

    def save(self, folder: str | Path) -> Path:
        """Save the policy to a folder, which is created, with its dataset and training curve; ``load_policy`` loads it.

        Returns:
            The file of the policy.

        Raises:
            PolicyError: the folder cannot be written.
        """
        try:
            return self._saved(Path(folder))
        except OSError as error:
            raise PolicyError(message_of(error) or f"{folder}: {error}") from error

    def _saved(self, target: Path) -> Path:
        if target.exists() and not target.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "", str(target))
        target.mkdir(parents=True, exist_ok=True)
        dataset = None if self.dataset is None else self.dataset.as_json().encode()
        files = {DATASET: dataset, TRAINING_CURVE: self.curve_text, POLICY: self.content}
        for name, content in files.items():
            if content is None:
                (target / name).unlink(missing_ok=True)  # Of a policy that was there before.
            else:
                write_bytes(target / name, content)
        return target / POLICY

    def export(self, path: str | Path) -> Path:
        """Write the complete policy to a ``.pt2`` or ``.onnx`` file, which acts without this package.

        Raises:
            PolicyError: as ``export_policy`` of ``offline_gcrl.library.exporting``.
        """
        from offline_gcrl.library.exporting import (
            export_policy,
        )  # Importing torch.export takes a second.

        return export_policy(self, path)

    def recipe_of(self, task: str | None) -> Recipe:
        """The recipe of a task, by default of the first.

        Raises:
            PolicyError: the policy has no recipe, or none for this task.
        """
        if self.dataset is None:
            raise PolicyError(
                "the recipe of this policy is not known: neither is dataset.json next to its file, nor does the file "
                "belong to a project; load it from the folder that 'save' has written"
            )
        found = {recipe.task: recipe for recipe in self.dataset.recipes}
        name = self.dataset.tasks[0] if task is None else task
        if name not in found:
            raise PolicyError(f"the policy knows no task '{name}'; {nearest(name, found)}")
        return found[name]

    def _environment(self, task: str | None) -> Environment:
        recipe = self.recipe_of(task)
        if recipe.evaluation is None:
            raise PolicyError(
                f"the data of '{recipe.task}' names no environment; pass 'environment' to load_dataset or evaluate"
            )
        return recipe.evaluation.environment

    def _parts(
        self,
        given: ArrayLike | Mapping[str, Any],
        goal: ArrayLike | None,
        task: str | None,
        instruction: str | Sequence[str] | None,
    ) -> tuple[Any, Any, Any]:
        """Observation, desired goal and achieved goal; None for goals that are not given.

        With an instruction about goals, the goal in the dict is not used.
        """
        says_goal = instruction is not None and bool(
            self.vocabulary and self.vocabulary.has_captions
        )
        if (
            self.dimensions.image is not None
        ):  # Nothing of it is selected from what an environment returns.
            state, achieved = given, None
        elif isinstance(given, Mapping):
            state, desired, achieved = self._selections(given, task)
            goal = desired if goal is None and not says_goal else goal
        else:
            state, achieved = given, None
        if goal is None and self.vocabulary is None:
            raise PolicyError(f"the goal is missing; {SEES if self.dimensions.image else READS}")
        return state, goal, achieved

    def _selections(self, given: Mapping[str, Any], task: str | None) -> tuple[Any, Any, Any]:
        """What the recipe selects from an observation; None for goals that are not among its keys."""
        spec, tree = self._goal_spec(task), as_tree(given)

        def goal(selection: Selection | None) -> Any:
            if selection is None or any(
                part.key and not has_key(tree, part.key) for part in selection
            ):
                return None
            return self._selected(tree, selection, self.dimensions.goal)

        try:
            state = self._selected(tree, spec.observation, self.dimensions.observation)
            return state, goal(spec.desired), goal(spec.achieved)
        except DataError as error:
            raise PolicyError(f"the observation does not fit the policy: {error}") from None

    def _goal_spec(self, task: str | None) -> Goal:
        if self.dataset is None:
            return USUAL_KEYS
        return evaluated_goal(self.recipe_of(task if task in self.tasks else None))

    def _selected(
        self, tree: Mapping[str, Any], selection: Selection, size: int
    ) -> NDArray[np.floating[Any]]:
        """Selected numbers of one step or of a batch; in a suite with padding, padded to the size that the policy reads."""
        is_padded = self.dataset is not None and self.dataset.pad
        rows, values = batch_size(tree, selection), select(tree, selection)
        # Several rows that have the size of one step are a matrix, unless padding allows for smaller steps.
        if rows is not None and (rows == 1 or is_padded or values.size != size):
            values = select(tree, selection, rows)
        missing = size - values.shape[-1]
        if missing <= 0 or not is_padded:
            return values
        return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)])


def with_dataset(
    file: Path, dataset: Dataset | None, folder: TemporaryFolder | None = None
) -> TrainedPolicy:
    """The policy in a file, with its dataset.

    Raises:
        PolicyError: the file does not exist, or is not a policy of this version.
    """
    content = _bytes_of(file)
    plain = policies.load_policy(file, content)
    values = {item.name: getattr(plain, item.name) for item in fields(Policy)}
    return TrainedPolicy(
        **values,
        dataset=dataset,
        file=file,
        content=content or b"",
        curve_text=_bytes_of(file.with_name(TRAINING_CURVE)),
        folder=folder,
    )


def _bytes_of(file: Path) -> bytes | None:
    """What a file contains; None if there is none.

    Raises:
        PolicyError: it cannot be read.
    """
    try:
        return file.read_bytes() if file.is_file() else None
    except OSError as error:
        raise PolicyError(message_of(error) or f"{file}: {error}") from error


def load_policy(path: str | Path) -> TrainedPolicy:
    """Load a policy from its file or its folder: one that ``save`` has written, or one of a project.

    Raises:
        PolicyError: the file does not exist, is not a policy of this version, or is next to the recipe of another dataset.
    """
    file = policy_file(Path(path)).absolute()
    loaded = with_dataset(file, None)
    name = str(loaded.training.get("dataset"))
    projects = [folder.parent for folder in file.parents if folder.name == "models"]
    for path in [file.with_name(DATASET), *(root / RESOLVED / f"{name}.json" for root in projects)]:
        if path.is_file():
            return replace(loaded, dataset=_described_in(path, name))
    return loaded


def _described_in(path: Path, name: str) -> Dataset:
    """The dataset in a file.

    Raises:
        PolicyError: it is not the one with this name.
    """
    dataset = load_resolved(path.stem, path.parent)
    if dataset.name != name:
        raise PolicyError(
            f"{path}: describes the dataset '{dataset.name}', and the policy was trained on '{name}'; copy the policy's "
            "folder as a whole, or delete this file"
        )
    return dataset
