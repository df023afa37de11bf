"""Checks published data against its recipe before it is ingested."""

import math
from pathlib import Path

from offline_gcrl.config import Environment, Recipe, Source
from offline_gcrl.environments.making import first_options, make_environment, shown_sizes
from offline_gcrl.environments.selection import evaluated_goal
from offline_gcrl.episodes.reading import vector_sizes
from offline_gcrl.episodes.sources import check_source, open_source
from offline_gcrl.support.errors import DataError


def check_published(recipe: Recipe, source: Source, root: Path) -> list[str]:
    """Check the keys, sizes and environment of a published dataset.

    Returns:
        Remarks on differences that may be intended.

    Raises:
        DataError: the data does not fit the recipe; the message names what was found, what was expected and the remedy.
    """
    data = open_source(source, root)
    check_source(recipe, source, data, root)
    sizes = vector_sizes(recipe, source, data)
    if recipe.evaluation is not None:
        _check_sizes(recipe, source, sizes)
    if recipe.environment is None or data.env_spec is None:
        return []
    return _compare_names(source, data.env_spec.id, recipe.environment)


def _check_sizes(recipe: Recipe, source: Source, sizes: dict[str, int]) -> None:
    """Check that a policy trained on the data can act in the evaluation environment."""
    assert recipe.evaluation is not None
    settings = recipe.evaluation.environment
    environment = make_environment(settings)
    shown = shown_sizes(environment, evaluated_goal(recipe), options=first_options(recipe))
    shape = environment.action_space.shape
    shown |= {"action": math.prod(shape)} if shape is not None else {}
    environment.close()
    for name, size in shown.items():
        if sizes.get(name, size) != size:
            raise DataError(
                f"dataset '{source.dataset}': its {name} has {sizes[name]} numbers, and {settings.id}, where "
                f"policies are evaluated, has {size}; correct the recipe's goal or evaluation.environment"
            )


def _compare_names(source: Source, noted: str, expected: Environment) -> list[str]:
    """Compare environment ids: another environment is an error, another version of it is a remark."""
    named = expected.id.split(":")[-1]
    if noted == named:
        return []
    if noted.rpartition("-v")[0] != named.rpartition("-v")[0]:
        raise DataError(
            f"dataset '{source.dataset}' was collected in '{noted}', but its recipe has '{named}'; correct "
            "environment.id of the recipe, or the id of the dataset"
        )
    return [
        f"{source.dataset} was collected in {noted}, but its recipe has {named}: the physics may differ"
    ]
