"""Convert Minari datasets to checked episodes in Parquet."""

from functools import partial
from pathlib import Path

import this_project  # noqa: F401 - first: it decides which copy of the package is imported

from offline_gcrl.config import load_dataset, load_params
from offline_gcrl.support.cluster import use_cluster
from offline_gcrl.support.digests import sealed_directory
from offline_gcrl.support.processes import cores
from offline_gcrl.support.terminal import (
    Bars,
    close,
    note,
    note_memory,
    stage,
    stage_arguments,
    warn,
)


def main() -> None:
    """Fill ``datasets/parquet/<dataset>``."""
    (name,) = stage_arguments(__doc__, "dataset")
    from offline_gcrl.episodes.ingest import ingest
    from offline_gcrl.episodes.outliers import isolated_sentence
    from offline_gcrl.episodes.published import check_published
    from offline_gcrl.episodes.sources import open_source
    from offline_gcrl.support.unfinished import FOLDER, Unfinished

    with stage("ingest", name):
        params, dataset = load_params(), load_dataset(name)
        use_cluster(params.cluster.address, params.cluster.retries)
        unfinished = Unfinished(FOLDER / "ingest" / name, cores())
        root, output = Path("datasets/minari") / name, Path("datasets/parquet") / name
        sources = [(recipe, source) for recipe in dataset.recipes for source in recipe.sources]
        for recipe, source in sources:
            if source.collect is None:
                for remark in check_published(recipe, source, root):
                    note(remark)
        opened = [open_source(source, root) for _, source in sources]
        total = sum(data.total_steps for data in opened)
        size = params.ingest_for(name).transitions_per_shard
        note_memory("ingest", sum(data.total_episodes for data in opened))
        with (
            sealed_directory(output) as folder,
            Bars([name, *(["images"] if dataset.images else [])], total, "transitions") as bars,
        ):
            advance = partial(partial, bars.advance)
            on_parts = (advance(name), advance("images"))
            schema = ingest(dataset, root, folder, *on_parts, size, unfinished)
        unfinished.remove()
        for found in schema["isolated_values"]:
            warn(isolated_sentence(found))
        counts = schema["counts"]
        close(f"{counts['transitions']:,} transitions, {counts['episodes']:,} episodes in {output}")


if __name__ == "__main__":
    main()
