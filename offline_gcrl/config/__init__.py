"""Settings: ``params.yaml`` and recipes, validated into frozen typed models before any work.

- ``reading``: reading of YAML files, strict models, error messages.
- ``experiment``, ``relabelling``, ``training``, ``multitask``, ``evaluating``, ``agents``, ``speech``, ``vision``: the sections of
  ``params.yaml``. ``overrides`` applies the overrides per dataset and per agent, ``params`` reads the complete
  file, ``checks`` compares settings of different sections, and ``hidden`` lists settings without effect.
- ``sources``, ``goals``, ``language``, ``images``, ``recipes``: the models of a recipe. ``resolving`` loads recipes and fills in counts.
- ``outputs``: names of the files that the stages write.

The folder imports nothing heavy, so that ``--help`` and errors in settings are fast.
"""

from offline_gcrl.config.agents import (
    Activation,
    AgentSettings,
    DualGoals,
    Modular,
    Sampling,
    Units,
    ValueMeaning,
    algorithm_names,
    require_goal,
)
from offline_gcrl.config.checks import (
    agent_settings,
    check_agent,
    check_planner,
)
from offline_gcrl.config.clusters import Cluster
from offline_gcrl.config.episode_checks import check_episode_counts, check_evaluation
from offline_gcrl.config.evaluating import Evaluate, Planner, Video
from offline_gcrl.config.experiment import Collecting, Experiment, Ingesting
from offline_gcrl.config.fit import check_fit
from offline_gcrl.config.goals import Goal, Part, Region, Selection, Success, has_original_goals
from offline_gcrl.config.hidden import hidden_settings
from offline_gcrl.config.images import Camera, GoalImage, Images
from offline_gcrl.config.language import Language
from offline_gcrl.config.multitask import Tasks, TaskSequence
from offline_gcrl.config.params import PARAMS, Params, load_params
from offline_gcrl.config.reading import Section, nearest
from offline_gcrl.config.recipes import Dataset, Evaluation, FixedTasks, Recipe, Suite
from offline_gcrl.config.relabelling import Discount, Mixture, Relabel, Strategy
from offline_gcrl.config.resolving import (
    RECIPES,
    RESOLVED,
    load_dataset,
    load_recipe,
    recipe_names,
    resolve,
    unusable_recipes,
)
from offline_gcrl.config.sources import Collect, Environment, Source
from offline_gcrl.config.speech import Speech, TextEncoder
from offline_gcrl.config.training import Resident, Train
from offline_gcrl.config.unseen import check_held_out
from offline_gcrl.config.vision import Vision

__all__ = [
    "PARAMS",
    "RECIPES",
    "RESOLVED",
    "Activation",
    "AgentSettings",
    "Camera",
    "Cluster",
    "Collect",
    "Collecting",
    "Dataset",
    "Discount",
    "DualGoals",
    "Environment",
    "Evaluate",
    "Evaluation",
    "Experiment",
    "FixedTasks",
    "Goal",
    "GoalImage",
    "Images",
    "Ingesting",
    "Language",
    "Mixture",
    "Modular",
    "Params",
    "Part",
    "Planner",
    "Recipe",
    "Region",
    "Relabel",
    "Resident",
    "Sampling",
    "Section",
    "Selection",
    "Source",
    "Speech",
    "Strategy",
    "Success",
    "Suite",
    "TaskSequence",
    "Tasks",
    "TextEncoder",
    "Train",
    "Units",
    "ValueMeaning",
    "Video",
    "Vision",
    "agent_settings",
    "algorithm_names",
    "check_agent",
    "check_episode_counts",
    "check_evaluation",
    "check_fit",
    "check_held_out",
    "check_planner",
    "has_original_goals",
    "hidden_settings",
    "load_dataset",
    "load_params",
    "load_recipe",
    "nearest",
    "recipe_names",
    "require_goal",
    "resolve",
    "unusable_recipes",
]
