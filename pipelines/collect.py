"""Collect the sources of a dataset in its environments, or fetch published ones, as Minari datasets."""

from pathlib import Path

import this_project  # noqa: F401 - first: it decides which copy of the package is imported

from offline_gcrl.config import RESOLVED, load_dataset, load_params
from offline_gcrl.support.cluster import use_cluster
from offline_gcrl.support.digests import sealed_directory
from offline_gcrl.support.processes import preload
from offline_gcrl.support.terminal import Bars, close, stage, stage_arguments


def main() -> None:
    """Fill the Minari root ``datasets/minari/<dataset>``."""
    (name,) = stage_arguments(__doc__, "dataset")
    from offline_gcrl.collect.collector import collect_source, max_steps_per_episode
    from offline_gcrl.collect.kept import CODE, inputs
    from offline_gcrl.collect.published import fetch_published
    from offline_gcrl.support.unfinished import FOLDER, Unfinished

    with stage("collect", name):
        chosen = load_params().cluster
        use_cluster(chosen.address, chosen.retries)
        preload("offline_gcrl.collect.collector")
        sources = [
            (recipe, source) for recipe in load_dataset(name).recipes for source in recipe.sources
        ]
        output = Path("datasets/minari") / name
        unfinished = Unfinished(FOLDER / "collect" / name)
        kept = unfinished.parts(inputs(RESOLVED / f"{name}.json"), CODE)
        steps = 0
        with sealed_directory(output) as root:
            for number, (recipe, source) in enumerate(sources):
                if source.collect is None:
                    fetch_published(source.dataset, root, source.address)
                    continue
                assert source.episodes is not None
                total = source.episodes * max_steps_per_episode(recipe)
                part = source.dataset.split("/")[-1]
                with Bars([part], total, "steps") as bars:

                    def on_steps(count: int, bars: Bars = bars, part: str = part) -> None:
                        bars.advance(part, count)

                    steps += collect_source(
                        recipe, source, root, on_steps=on_steps, kept=kept / str(number)
                    ).total_steps
        unfinished.remove()
        close(f"{len(sources)} source(s), {steps:,} steps collected, in {output}")


if __name__ == "__main__":
    main()
