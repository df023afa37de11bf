"""Write the card of a dataset: its numbers and figures, and whether the simulator reproduces the data."""

from pathlib import Path
from typing import Any

import this_project  # noqa: F401 - first: it decides which copy of the package is imported

from offline_gcrl.config import load_dataset, load_params
from offline_gcrl.support.digests import read_json, sealed_directory
from offline_gcrl.support.files import digest
from offline_gcrl.support.silence import LOGGING, working_on
from offline_gcrl.support.terminal import close, note, note_memory, stage, stage_arguments, warn


def main() -> None:
    """Fill ``datasets/cards/<dataset>``."""
    (name,) = stage_arguments(__doc__, "dataset")
    from offline_gcrl.cards.card import write_card
    from offline_gcrl.cards.replay import replay_dataset
    from offline_gcrl.config.outputs import PAGE, SCHEMA

    with stage("describe", name):
        dataset, output = load_dataset(name), Path("datasets/cards") / name
        episodes = Path("datasets/parquet") / name
        note_memory("describe", read_json(episodes / SCHEMA)["counts"]["episodes"])
        with working_on("replaying recorded actions"):
            replays = replay_dataset(dataset, Path("datasets/minari") / name)
        for source, replay in replays.items():
            say = warn if replay.outcome == "drifts" else note
            say(f"{source}: {replay.sentence}")
        with sealed_directory(output) as folder:
            card = write_card(dataset, episodes, replays, folder)
            log_card(name, card, episodes, folder)
        close(
            f"{card['all']['transitions']:,} transitions of {len(card['sources'])} source(s) "
            f"described in {output / PAGE}"
        )


@working_on(LOGGING)
def log_card(name: str, card: dict[str, Any], episodes: Path, folder: Path) -> None:
    """Log a card to the MLflow experiment that compares datasets."""
    from offline_gcrl.cards.card import card_metrics, card_params, card_text
    from offline_gcrl.config.outputs import CARD, PAGE
    from offline_gcrl.tracking.store import open_tracker
    from offline_gcrl.tracking.views import dataset_views

    tracker = open_tracker(load_params().experiment, " datasets", dataset_views())
    run = tracker.card_run(name, digest([folder / CARD]))
    run.log_dataset(name, episodes)
    run.log_params(card_params(card))
    run.log_metrics(card_metrics(card))
    run.set_tags({"mlflow.note.content": card_text((folder / PAGE).read_text("utf-8"))})
    for path in sorted(folder.iterdir()):
        run.log_artifact(path, "card")
    run.finish()


if __name__ == "__main__":
    main()
