"""``make screenshots``: the pictures of the report and of MLflow in ``docs/images``, from the outputs of `make repro`.

The script uses the system's Chromium (Debian: ``apt install chromium``). The pictures show the newest runs of the
given dataset.

    python docs/screenshots.py --dataset pointmaze-umaze --output docs/images
"""

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Browser, Page, sync_playwright

from offline_gcrl.config import load_params
from offline_gcrl.tracking.page import HOST, command
from offline_gcrl.tracking.store import ALL_SEEDS, Tracker
from offline_gcrl.tracking.views import address, dataset_views

REPORT = Path("reports/index.html")
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
OPTIONS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
SECONDS_TO_START = 120
SETTLED, MOST_PATIENCE = 2500, 90_000  # Milliseconds: for charts to settle, and for a page.
TRAINING = "workflowType=machine_learning"  # MLflow's pages for models, not for language models.
PLOT = ".js-plotly-plot"
KEEP_ASSISTANT_SHUT = (
    'localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true")'
)
"""At the first visit, MLflow opens a panel for questions to a language model."""


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="pointmaze-umaze")
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=chromium(), args=OPTIONS)
        take_report(browser, given.output)
        shutil.copy(f"reports/figures/goals-{given.dataset}.svg", given.output / "goals.svg")
        with mlflow_server() as server:
            take_mlflow(browser, server, given.dataset, given.output)
        browser.close()


def take_report(browser: Browser, output: Path) -> None:
    """The top of the report, on a desktop and on a phone in dark mode."""
    for name, width, height, scheme in (
        ("report-wide", 1280, 1500, "light"),
        ("report-narrow-dark", 390, 1480, "dark"),
    ):
        page = browser.new_page(
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]
        )
        page.goto(REPORT.resolve().as_uri())
        page.screenshot(path=output / f"{name}.png")
        page.close()


def take_mlflow(browser: Browser, server: str, dataset: str, output: Path) -> None:
    """The runs table, the best run's page, the comparison of all agents, the table of datasets."""
    name = load_params().experiment.name
    tracker = Tracker(name)
    runs = agents_runs(tracker, dataset)
    experiment, path = tracker.experiment, f"{server}/#/experiments/{tracker.experiment}"
    compared = f"{server}/#/compare-runs?runs={quote(json.dumps(runs))}"
    compared += f"&experiments={quote(json.dumps([experiment]))}&{TRAINING}"
    datasets = Tracker(f"{name} datasets", dataset_views()).experiment
    page = browser.new_page(viewport={"width": 1360, "height": 640})
    page.add_init_script(KEEP_ASSISTANT_SHUT)
    page.set_default_timeout(MOST_PATIENCE)
    take(page, f"{server}/{address(experiment)}", f"on {dataset}", output / "mlflow-runs.png")
    take(page, f"{server}/{address(datasets, 'datasets')}", dataset, output / "mlflow-datasets.png")
    page.set_viewport_size({"width": 1360, "height": 900})
    take(page, f"{path}/runs/{runs[0]}?{TRAINING}", "Child runs", output / "mlflow-run.png")
    take(page, compared, "Parallel Coordinates Plot", output / "mlflow-compare.png", PLOT)
    page.close()


def take(page: Page, where: str, text: str, path: Path, element: str = "body") -> None:
    """A picture of an address, once it shows a text and an element and has settled."""
    page.goto(where)
    page.get_by_text(text).first.wait_for()
    page.locator(element).first.wait_for()
    page.wait_for_timeout(SETTLED)
    page.screenshot(path=path)


def agents_runs(tracker: Tracker, dataset: str) -> list[str]:
    """The newest parent run of each agent on a dataset, the best first."""
    where = f"tags.seed = '{ALL_SEEDS}' and tags.dataset = '{dataset}' and metrics.success >= 0"
    found = tracker.client.search_runs(
        [tracker.experiment], where, order_by=["attributes.start_time DESC"]
    )
    newest = {run.data.tags["agent"]: run for run in reversed(found)}
    best_first = sorted(newest.values(), key=lambda run: -run.data.metrics["success"])
    return [run.info.run_id for run in best_first]


@contextmanager
def mlflow_server() -> Iterator[str]:
    """The address of MLflow's server on the project's store, while it is needed."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    address = f"http://{HOST}:{port}"
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command(str(port)), stdout=log, stderr=log) as server,
    ):
        try:
            wait_for(f"{address}/health")
            yield address
        finally:
            server.terminate()


def wait_for(address: str) -> None:
    """Wait until a server answers at an address.

    Raises:
        TimeoutError: no server answers.
    """
    for _ in range(SECONDS_TO_START):
        try:
            urllib.request.urlopen(address, timeout=5)  # noqa: S310 (of this machine)
        except OSError:
            time.sleep(1)
        else:
            return
    raise TimeoutError(f"{address} did not answer in {SECONDS_TO_START} s")


def chromium() -> str:
    """The path of the system's Chromium; ends the process with a sentence where there is none."""
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        sys.exit(
            "error: no Chromium on this machine; Debian and Ubuntu have it: apt install chromium"
        )
    return found


if __name__ == "__main__":
    main()
