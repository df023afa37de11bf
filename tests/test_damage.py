"""Whatever is wrong with its input, a stage ends in a sentence or in the right result, and leaves nothing half-written.

Every case damages one file at the door of a stage, drawn from the number of the case.
"""

import collections
import io
import json
import shutil
import traceback
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import RECIPES, ROOT, SmallDataset, as_dataset
from damage import damage, restored
from matplotlib.figure import Figure
from test_report import MAZE
from test_report import Project as Reported

from offline_gcrl.agents import settings_type
from offline_gcrl.cards.card import write_card
from offline_gcrl.collect.collector import check_sources
from offline_gcrl.config import Evaluate, Train, load_params, load_recipe, recipe_names, resolve
from offline_gcrl.environments.held_out_goals import check_region
from offline_gcrl.environments.making import check_environments
from offline_gcrl.episodes.dataset import open_episodes
from offline_gcrl.episodes.ingest import ingest
from offline_gcrl.evaluation import rollouts
from offline_gcrl.evaluation.plan import plan_evaluation
from offline_gcrl.figures.gradients import draw_gradients
from offline_gcrl.hindsight.relabel import relabel
from offline_gcrl.policies.saved import content_digest, read_content
from offline_gcrl.report.writing import write_report
from offline_gcrl.support.digests import seal, sealed_directory
from offline_gcrl.support.errors import message_of
from offline_gcrl.support.memory import is_out_of_memory, memory_sentence
from offline_gcrl.training.jobs import TrainingJob
from offline_gcrl.training.module import train_seed

FAST, SLOW = 20, 500


def without_drawing(figure: Figure, file: Any, **how: Any) -> None:
    """Save an empty figure, which is faster."""
    if isinstance(file, Path):
        file.write_text("<svg></svg>")
    else:
        file.write("<svg></svg>" if isinstance(file, io.StringIO) else b"<svg></svg>")


class Stage:
    """A stage with a folder of inputs, which a case damages."""

    def __init__(self, folder: Path, dataset: SmallDataset) -> None:
        self.inputs, self.dataset = folder / "inputs", dataset
        self.inputs.mkdir()
        self.output = folder / "output"
        self.prepare()
        self.expected = self.result()

    @abstractmethod
    def prepare(self) -> None:
        """Fill the folder of inputs."""

    @abstractmethod
    def run(self, output: Path) -> Any:
        """Run the stage; returns what does not change if the inputs do not."""

    def result(self) -> Any:
        with sealed_directory(self.output) as output:
            result = self.run(output)
        shutil.rmtree(self.output)
        return result

    def is_right(self, result: Any) -> bool:
        """Whether a result from damaged inputs is right: by default, only that from undamaged ones."""
        return bool(result == self.expected)

    def copied(self, folder: Path, name: str) -> None:
        shutil.copytree(folder, self.inputs / name)
        seal(self.inputs / name)


class Settings(Stage):
    """``check``: params.yaml and a recipe; another valid setting is right, too."""

    def prepare(self) -> None:
        recipes = self.inputs / "datasets/recipes"
        recipes.mkdir(parents=True)
        shutil.copy(ROOT / "params.yaml", self.inputs)
        text = (ROOT / "params.yaml").read_text()
        for recipe in RECIPES.glob("*.yaml"):
            if recipe.stem in text or recipe.stem.startswith("pointmaze"):
                shutil.copy(recipe, recipes)

    def run(self, output: Path) -> Any:
        params = load_params(self.inputs / "params.yaml")
        recipes = self.inputs / "datasets/recipes"
        return params, [resolve(name, folder=recipes) for name in recipe_names(recipes)]

    def is_right(self, result: Any) -> bool:
        return result is not None


class Collect(Stage):
    """``collect``: a recipe, whose environment and policies are checked; another valid recipe is right, too."""

    def prepare(self) -> None:
        shutil.copy(RECIPES / "pointmaze-umaze.yaml", self.inputs)

    def run(self, output: Path) -> Any:
        recipe = load_recipe("pointmaze-umaze", self.inputs)
        where = "pointmaze-umaze.yaml"
        check_environments(recipe, where)
        check_sources(recipe, where)
        check_region(recipe, where)
        return recipe

    def is_right(self, result: Any) -> bool:
        return result is not None


class Published(Stage):
    """``ingest`` of published data, which has no digests: other numbers are right if they are valid."""

    def prepare(self) -> None:
        shutil.copytree(self.dataset.minari, self.inputs / "minari")

    def run(self, output: Path) -> Any:
        ingest(as_dataset(self.dataset.recipe), self.inputs / "minari", output)
        return open_episodes(output)

    def is_right(self, result: Any) -> bool:
        arrays = (result.observation, result.achieved_goal, result.desired_goal, result.action)
        valid = all(np.isfinite(array).all() for array in arrays)
        return valid and len(result.table) == len(self.expected.table)


class Ingest(Published):
    """``ingest`` of data that ``collect`` wrote."""

    def prepare(self) -> None:
        self.copied(self.dataset.minari, "minari")

    def is_right(self, result: Any) -> bool:
        return bool((result.observation == self.expected.observation).all())


class Describe(Stage):
    """``describe``: an ingested dataset."""

    def prepare(self) -> None:
        self.copied(self.dataset.parquet, "parquet")

    def run(self, output: Path) -> Any:
        return write_card(as_dataset(self.dataset.recipe), self.inputs / "parquet", {}, output)


class Relabel(Describe):
    """``relabel``: an ingested dataset."""

    def run(self, output: Path) -> Any:
        settings, goal = self.dataset.relabel, self.dataset.recipe.goal
        relabel(self.inputs / "parquet", output, settings, goal)
        return (output / "table.parquet").read_bytes()


class Training(Stage):
    """``train``: an ingested dataset, its hindsight table, and the checkpoints of an interrupted training."""

    def prepare(self) -> None:
        self.copied(self.dataset.parquet, "parquet")
        self.copied(self.dataset.hindsight, "hindsight")
        self.interrupted = False

    def job(self, output: Path, updates: int) -> TrainingJob:
        settings = {"algorithm": "bc", "hidden": [4], "learning_rate": 1e-3}
        train = {"updates": 6, "batch_size": 4, "snapshots": 3, "updates_per_step": 1}
        return TrainingJob(
            dataset="small",
            agent="bc",
            seed=0,
            episodes=self.inputs / "parquet",
            hindsight=self.inputs / "hindsight",
            train=Train.model_validate(train),
            settings=settings_type("bc").model_validate_json(json.dumps(settings)),
            checkpoints=self.inputs / "checkpoints/digest",
            output=output,
        )

    def run(self, output: Path) -> Any:
        train_seed(self.job(output / "seed-0", 6), lambda event: None)
        policies = sorted(
            output.rglob("*.pt")
        )  # The same weights may be in files with other padding.
        return [content_digest(read_content(path)) for path in policies], (
            output / "seed-0/training.csv"
        ).read_bytes()


class Evaluation(Stage):
    """``evaluate``: a policy with its snapshots."""

    def prepare(self) -> None:
        folder = self.inputs.with_name("training")
        folder.mkdir()
        training = Training(folder, self.dataset)
        with sealed_directory(self.inputs / "models") as output:
            training.run(output)

    def run(self, output: Path) -> Any:
        rollouts._policy.cache_clear()
        folder, dataset = self.inputs / "models/seed-0", as_dataset(self.dataset.recipe)
        draw_gradients([folder], output)
        plan = plan_evaluation({0: folder}, dataset, Evaluate(episodes=1, curve_episodes=1))
        return [rollouts.run_episode(job) for jobs in plan.values() for job in jobs]


class Report(Stage):
    """``report``: results, cards, datasets and hindsight tables; its intervals are of a few resamples, and its
    figures are empty."""

    def prepare(self) -> None:
        self.project = Reported(self.inputs, self.dataset)
        self.project.add(rates={"bc": 0.4, "gciql": 0.6})
        folders = self.project.folders
        write_card(as_dataset(self.dataset.recipe), self.dataset.parquet, {}, folders.cards / MAZE)
        results = [folders.results / MAZE / agent for agent in ("bc", "gciql")]
        for folder in (folders.parquet / MAZE, folders.hindsight / MAZE, folders.cards / MAZE, *results):  # fmt: skip
            seal(folder)

    def run(self, output: Path) -> Any:
        params = self.project.params(agents=("bc", "gciql"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("offline_gcrl.statistics.intervals.RESAMPLES", 10)
            patch.setattr(Figure, "savefig", without_drawing)
            patch.setattr(Figure, "draw_without_rendering", lambda figure: None)
            results = self.project.results(params)
            datasets, folders = self.project.datasets(params), self.project.folders
            write_report(params, datasets, results, folders, output / "reports")
        return [path.read_bytes() for path in sorted((output / "reports").rglob("*")) if path.is_file()]  # fmt: skip


STAGES: dict[str, type[Stage]] = {
    "check": Settings,
    "collect": Collect,
    "ingest": Ingest,
    "ingest published data": Published,
    "describe": Describe,
    "relabel": Relabel,
    "train": Training,
    "evaluate": Evaluation,
    "report": Report,
}


@pytest.fixture(scope="module", params=STAGES)
def stage(
    request: pytest.FixtureRequest, dataset: SmallDataset, tmp_path_factory: pytest.TempPathFactory
) -> Stage:
    return STAGES[request.param](tmp_path_factory.mktemp("stage"), dataset)


def outcome(stage: Stage, number: int) -> str:
    """How a case ends: in a ``sentence`` or in the ``right result``; else what went wrong."""
    random = np.random.default_rng([number])
    with restored(stage.inputs):
        path, how = damage(stage.inputs, random)
        case = f"case {number}, {how} of {path.relative_to(stage.inputs)}"
        try:
            result = stage.result()
        except Exception as error:
            said = memory_sentence(error) if is_out_of_memory(error) else message_of(error)
            if said is None:
                return f"{case}: {''.join(traceback.format_exception(error))}"
            if stage.output.exists():
                return f"{case}: an output is left"
            return "sentence"
        return "right result" if stage.is_right(result) else f"{case}: another result"


def check(stage: Stage, cases: range) -> collections.Counter[str]:
    outcomes = [outcome(stage, number) for number in cases]
    wrong = [each for each in outcomes if each not in {"sentence", "right result"}]
    assert not wrong, f"{len(wrong)} of {len(cases)} cases:\n" + "\n".join(wrong[:5])
    return collections.Counter(outcomes)


def test_a_damaged_input_ends_in_a_sentence_or_in_the_right_result(stage: Stage) -> None:
    assert check(stage, range(FAST))["sentence"] > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_damaged_inputs_end_in_a_sentence_or_in_the_right_result(stage: Stage) -> None:
    print(type(stage).__name__, check(stage, range(FAST, FAST + SLOW)))
