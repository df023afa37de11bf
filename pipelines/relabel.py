"""Draw hindsight goals for every transition and strategy, and compute their rewards."""

from functools import partial
from pathlib import Path

import this_project  # noqa: F401 - first: it decides which copy of the package is imported

from offline_gcrl.config import load_dataset, load_params
from offline_gcrl.support.cluster import use_cluster
from offline_gcrl.support.digests import read_json, sealed_directory
from offline_gcrl.support.files import write_json
from offline_gcrl.support.processes import cores
from offline_gcrl.support.terminal import Bars, close, note, note_memory, stage, stage_arguments


def main() -> None:
    """Fill ``datasets/hindsight/<dataset>``."""
    (name,) = stage_arguments(__doc__, "dataset")
    from offline_gcrl.config.outputs import SCHEMA, STATS
    from offline_gcrl.goals.instructions import Sentences
    from offline_gcrl.hindsight.relabel import relabel
    from offline_gcrl.hindsight.statistics import describe
    from offline_gcrl.support.unfinished import FOLDER, Unfinished

    with stage("relabel", name):
        params, dataset = load_params(), load_dataset(name)
        settings = params.relabel_for(name)
        use_cluster(params.cluster.address, params.cluster.retries)
        unfinished = Unfinished(FOLDER / "relabel" / name, cores())
        goal, sentences = dataset.recipes[0].goal, Sentences.of(dataset)
        episodes, output = Path("datasets/parquet") / name, Path("datasets/hindsight") / name
        counts = read_json(episodes / SCHEMA)["counts"]
        total = counts["transitions"]
        note_memory("relabel", counts["episodes"])
        with sealed_directory(output) as folder:
            with Bars([name], total, "transitions") as bars:
                advance = partial(bars.advance, name)
                relabel(
                    episodes, folder, settings, goal, advance,
                    sentences=sentences, unfinished=unfinished,
                )  # fmt: skip
            statistics = describe(episodes, folder, settings, goal)
            write_json(folder / STATS, statistics)
        unfinished.remove()
        shares = (
            f"{strategy} {values['positive_share']:.2%}"
            for strategy, values in statistics["strategies"].items()
        )
        note(f"positive labels: {', '.join(shares)}")
        close(
            f"{statistics['transitions']:,} transitions relabelled, k = {settings.k}, in {output}"
        )


if __name__ == "__main__":
    main()
