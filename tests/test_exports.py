"""Tables and figures of the report as files for papers, and the posters of its videos."""

import base64
import csv
import io
import re
from contextlib import closing
from pathlib import Path

import imageio_ffmpeg
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image
from test_report import evaluated_episodes

from offline_gcrl.figures.goals import goals_figure
from offline_gcrl.figures.scenes import Scene
from offline_gcrl.figures.style import COLUMN, PAGE, save_for_paper
from offline_gcrl.report.exports import Table, as_csv, as_latex, markdown, tables_in
from offline_gcrl.report.films import poster
from offline_gcrl.statistics.intervals import Estimate

RESULTS = Table(
    "metrics-maze",
    "Results: 100% of a_b & more.",
    ["agent", "success", "steps", "episodes"],
    [
        ["gc_iql", Estimate(0.925, 0.85, 0.971), None, 1200],
        ["bc", Estimate(-0.1, -0.25, 0.05), Estimate(50.04, 41.0, 60.0), 1200],
    ],
    has_best=True,
)


def test_a_csv_table_has_the_bounds_of_intervals_in_columns_of_their_own() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(RESULTS))))
    assert list(rows[0]) == [
        "agent", "success", "success low", "success high", "steps", "steps low", "steps high", "episodes",
    ]  # fmt: skip
    assert rows[0]["success high"] == "0.971"
    assert (rows[0]["steps"], rows[0]["episodes"]) == ("", "1200")


def test_a_latex_table_has_rules_caption_and_label_and_escapes_what_latex_reads() -> None:
    text = as_latex(RESULTS)
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert r"\caption{Results: 100\% of a\_b \& more.}" in text
    assert r"\label{tab:metrics-maze}" in text
    assert r"\begin{tabular}{lrrr}" in text
    best, other = re.findall(r"^    (.* \\\\)$", text, re.MULTILINE)[1:]
    assert best.startswith(r"\textbf{gc\_iql} & \textbf{0.93} {\scriptsize[0.85, 0.97]} & ")
    assert best.count(r"\textbf") == 2  # Not the columns in which another agent may be better.
    bounds = (r"{\scriptsize[$-$0.25, 0.05]}", r"{\scriptsize[41.0, 60.0]}")
    assert other == rf"bc & $-$0.10 {bounds[0]} & 50.0 {bounds[1]} & 1,200 \\"


def test_a_markdown_table_has_a_dash_for_a_missing_value() -> None:
    assert markdown(RESULTS)[2] == "| gc_iql | 0.93 [0.85, 0.97] | – | 1,200 |"  # noqa: RUF001


def test_tables_are_found_at_any_depth_of_the_page() -> None:
    content = {"a": [{"table": RESULTS}], "b": None, "c": "text", "d": {"e": (RESULTS,)}}
    assert list(tables_in(content)) == [RESULTS, RESULTS]


@pytest.mark.parametrize(
    ("panels", "expected"), [((1, 1), COLUMN), ((2, 1), COLUMN), ((1, 2), PAGE)]
)
def test_a_figure_for_papers_has_the_width_of_a_column_or_page_and_embeds_its_fonts(
    tmp_path: Path, panels: tuple[int, int], expected: float
) -> None:
    for name in ("one", "two"):
        figure, axes = plt.subplots(*panels, figsize=(5.0, 3.0), squeeze=False)
        axes[0, 0].set_title("success")
        with mpl.rc_context({"pdf.compression": 0}):
            save_for_paper(figure, tmp_path / f"{name}.pdf")
        plt.close(figure)
    content = (tmp_path / "one.pdf").read_bytes()
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) [\d.]+ \]", content)
    assert box is not None
    assert float(box[1]) == pytest.approx(72 * expected)
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    font = content[content.index(b"stream\n\x00\x01\x00\x00") :]  # The start of a TrueType font.
    assert b"glyf" in font
    assert not [table for table in (b"GPOS", b"GSUB", b"GDEF") if table in font]
    assert content == (tmp_path / "two.pdf").read_bytes()


@pytest.mark.parametrize("agents", [1, 2, 3])
def test_no_text_of_a_map_of_goals_is_cut_at_the_edges_of_the_page(
    tmp_path: Path, agents: int
) -> None:
    """Positions and sizes of texts are read from the PDF, because those of the figure change while it is drawn."""
    cells = [(x, y) for x in range(5) for y in range(5) if {x, y} & {0, 4}]
    walls = [(float(x) - 2.5, float(y) - 2.5, 1.0) for x, y in cells]
    episodes = {f"agent-{n}": evaluated_episodes(0.5) for n in range(agents)}
    with mpl.rc_context({"pdf.compression": 0}):
        save_for_paper(goals_figure(episodes, Scene(walls=tuple(walls))), tmp_path / "goals.pdf")
    content = (tmp_path / "goals.pdf").read_bytes().decode("latin1")
    box = re.search(r"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", content)
    assert box is not None
    width, height = map(float, box.groups())
    placed = r"1 0 -?0 1 (-?[\d.]+) (-?[\d.]+) cm\s+BT\s+/F\d+ ([\d.]+) Tf(.*?)TJ"
    texts = re.findall(placed, content, re.DOTALL)
    assert len(texts) == agents + 3  # Titles of the panels, and the legend.
    for x, y, size, drawn in texts:
        letters = "".join(re.findall(r"\(\x00(.)\)", drawn))
        assert float(y) + 0.75 * float(size) <= height, letters
        assert 0 <= float(x) <= width - 0.5 * float(size) * len(letters), letters


# imageio-ffmpeg leaves its pipes to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_poster_of_a_video_is_its_last_frame(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with closing(imageio_ffmpeg.write_frames(path, (32, 32), macro_block_size=2)) as film:
        film.send(None)
        for colour in ((200, 0, 0), (0, 0, 200)):
            for _ in range(5):
                film.send(np.full((32, 32, 3), colour, np.uint8))
    uri = poster(path)
    assert uri is not None
    kind, content = uri.split(",")
    assert kind == "data:image/jpeg;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(content)))
    assert picture.size == (32, 32)
    red, _, blue = picture.getpixel((16, 16))  # type: ignore[misc]
    assert blue > 150 > 50 > red


def test_a_file_that_is_no_video_has_no_poster(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"film")
    assert poster(tmp_path / "film.mp4") is None
