"""Goals in words: sentences, hindsight instructions, batches, policies and evaluation."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from conftest import SmallDataset, as_dataset
from pydantic import ValidationError

from offline_gcrl.agents import make_agent, settings_type
from offline_gcrl.agents.bc import Settings
from offline_gcrl.cards.measure import IngestedDataset
from offline_gcrl.cards.sentences import becomes_true, measure_sentences, sentences_section
from offline_gcrl.config import Evaluate, Language, Relabel, Sampling, Speech, Train, Video
from offline_gcrl.config.outputs import INSTRUCTIONS, TABLE
from offline_gcrl.environments.tasks import check_tasks
from offline_gcrl.episodes.dataset import open_stored
from offline_gcrl.episodes.ingest import ingest
from offline_gcrl.evaluation.instructed import saying_of
from offline_gcrl.evaluation.jobs import FINAL, EpisodeJob, Instructed, episode_job, episode_jobs
from offline_gcrl.evaluation.probes import Probe, instructed_episodes
from offline_gcrl.evaluation.rollouts import run_episode
from offline_gcrl.evaluation.videos import plan_videos
from offline_gcrl.goals.instructions import NONE, SETS, Captions, Sentences, is_true
from offline_gcrl.goals.text import LENGTH, SIZE, embeddings, encode
from offline_gcrl.hindsight.relabel import relabel
from offline_gcrl.networks.conditioning import Dimensions
from offline_gcrl.policies.instructions import Vocabulary
from offline_gcrl.policies.policy import Policy, load_policy, save_policy
from offline_gcrl.report.exports import cell_text
from offline_gcrl.report.sentences import sentences_by_task_table, sentences_table
from offline_gcrl.support.errors import PolicyError, SettingsError
from offline_gcrl.support.files import write_json
from offline_gcrl.tracking.policies import signature
from offline_gcrl.tracking.serving import ServedPolicy
from offline_gcrl.training.batches.blocks import read_blocks
from offline_gcrl.training.batches.data import DeviceData
from offline_gcrl.training.batches.draw import Draw
from offline_gcrl.training.batches.loading import BlockReader
from offline_gcrl.training.batches.sampler import BatchSampler
from offline_gcrl.training.batches.storage import Mapped
from offline_gcrl.training.jobs import TrainingJob, content_digest
from offline_gcrl.training.placement import data_bytes

COLUMN = {
    "dimension": 0,
    "values": {
        "left": {"high": -0.3, "words": ["left", "west"], "unseen_words": ["sinister"]},
        "right": {"low": 0.3, "words": ["right"], "unseen_words": ["dexter"]},
    },
}
ROW = {
    "dimension": 1,
    "values": {
        "upper": {"low": 0.4, "words": ["upper"]},
        "lower": {"high": -0.4, "words": ["lower"]},
    },
}
CONTENT = {
    "attributes": {"row": ROW, "column": COLUMN},
    "phrasings": ["go to the {row} {column}", "move {column}"],
    "unseen_phrasings": ["to the {column} you should go"],
    "held_out": [{"row": "upper", "column": "right"}],
}
SETTINGS = Relabel(k=3)
MIXTURE = {"geometric": 0.5, "random": 0.3, "original": 0.2}


def as_language(content: dict[str, object]) -> Language:
    import json

    return Language.model_validate_json(json.dumps(content))


LANGUAGE = as_language(CONTENT)
CAPTIONS = Captions(LANGUAGE)


@pytest.fixture(scope="module")
def spoken(dataset: SmallDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hindsight table of the small dataset, with instructions."""
    folder = tmp_path_factory.mktemp("spoken")
    relabel(dataset.parquet, folder, SETTINGS, dataset.recipe.goal, sentences=sentences(dataset))
    return folder


def sentences(dataset: SmallDataset) -> Sentences:
    recipe = dataset.recipe.model_copy(update={"language": LANGUAGE})
    found = Sentences.of(as_dataset(recipe))
    assert found is not None
    return found


def sampler(dataset: SmallDataset, folder: Path, n_step: int = 1, **speech: object) -> BatchSampler:
    sampling = Sampling(
        fields=(
            "observations",
            "tasks",
            "value_goals",
            "rewards",
            "masks",
            "discounts",
            "actor_goals",
        ),
        actor_goals=MIXTURE,
        value_goals=MIXTURE,
        n_step=n_step,
        speech=Speech.model_validate({"encoder": "words", "with_goal": False, **speech}),
    )
    data = DeviceData(dataset.episodes)
    return BatchSampler(data, folder, sampling, split="train", batch_size=64, seed=0)


@pytest.mark.parametrize("with_goal", [True, False])
def test_sentences_of_resident_transitions_are_those_of_all_of_the_data(
    dataset: SmallDataset, spoken: Path, tmp_path: Path, with_goal: bool
) -> None:
    expected = sampler(dataset, spoken, 3, with_goal=with_goal)
    stored = DeviceData(open_stored(dataset.parquet), storage=Mapped(tmp_path))
    mapped = BatchSampler(stored, spoken, expected.sampling, split="train", batch_size=64, seed=0)
    blocks = read_blocks(mapped.transitions, Mapped(tmp_path))
    reader = BlockReader(stored, mapped.transitions, blocks)
    transitions, _ = reader.read(np.array([0]), reader.room(1))
    drawn = expected.draw(0, 10)
    here = Draw(transitions, mapped.sampling, mapped.keys, drawn.counter, drawn.step, drawn.pick)
    found, mapped_ones = mapped.read(here), mapped.batches(0, 10)
    for name, values in expected.read(drawn).items():
        assert torch.equal(values, found[name]), name
        assert torch.equal(values, mapped_ones[name]), name


def policy_of(dataset: SmallDataset, path: Path, **settings: object) -> Policy:
    """An untrained policy that takes instructions."""
    chosen = Settings(algorithm="bc", hidden=(8,), **settings)
    known, data = sentences(dataset), DeviceData(dataset.episodes)
    found = embeddings(known.instructions, chosen.text_encoder, known.captions)
    dimensions = Dimensions(4, 2, 2, language=found.shape[1])
    save_policy(
        path,
        make_agent(chosen, dimensions),
        "bc",
        chosen,
        data.scaling,
        dimensions,
        (dataset.recipe.task,),
        {"updates": 1},
        vocabulary=Vocabulary(known, found, chosen.text_encoder),
    )
    return load_policy(path)


def test_the_sets_of_sentences_differ_in_what_training_has_not_seen(dataset: SmallDataset) -> None:
    known = sentences(dataset)
    texts = {
        kind: [known.instructions[number].text for number in known.numbers(kind)] for kind in SETS
    }
    assert texts["seen"] == [
        "go to the upper left", "go to the upper west",
        "go to the lower left", "go to the lower west", "go to the lower right",
        "move left", "move west", "move right",
    ]  # fmt: skip
    assert texts["combination"] == ["go to the upper right"]
    assert texts["phrasing"] == [
        "to the left you should go", "to the west you should go", "to the right you should go",
    ]  # fmt: skip
    assert "move sinister" in texts["synonym"]
    assert "go to the upper dexter" not in texts["synonym"]  # Its combination is unseen, too.
    assert all("sinister" in text or "dexter" in text for text in texts["synonym"])


def test_a_sentence_is_true_within_the_bounds_and_nothing_is_true_in_a_margin() -> None:
    goals = np.array([[-0.3, 0.4], [-0.29, 0.39], [0.3, -0.4], [0.0, 0.0]])
    assert CAPTIONS.values(goals).tolist() == [[1, 1], [0, 0], [2, 2], [0, 0]]
    left = (("column", "left"),)
    assert CAPTIONS.true_of(goals, left).tolist() == [True, False, False, False]
    corner = (("row", "lower"), ("column", "right"))
    assert CAPTIONS.true_of(goals, corner).tolist() == [False, False, True, False]


def test_an_instruction_is_true_of_its_goal_and_not_of_its_state(
    dataset: SmallDataset, spoken: Path
) -> None:
    table, known = pl.read_parquet(spoken / TABLE), sentences(dataset)
    episodes = dataset.episodes
    assert episodes.desired_goal is not None
    of_row = CAPTIONS.values(episodes.achieved_goal)
    desired, row = CAPTIONS.values(episodes.desired_goal), table["row"].to_numpy()
    seen = {known.instructions[number].statement for number in known.numbers("seen")}
    draws = [
        (name, n)
        for name in ("final", "future", "geometric", "episode", "random")
        for n in range(1 if name == "final" else 3)
    ]
    found = 0
    for strategy, draw in [*draws, ("original", 0)]:
        numbers = table[f"{strategy}_instruction_{draw}"].to_numpy()
        rewards = table[f"{strategy}_instruction_reward_{draw}"].to_numpy()
        goals = desired[row] if strategy == "original" else of_row[table[f"{strategy}_goal_{draw}"]]
        for place in range(0, len(table), 7):
            state, following = of_row[row[place]], of_row[row[place] + 1]
            possible = [
                needed for statement in seen
                if is_true(goals[place], needed := CAPTIONS.needed(statement))
                and not is_true(state, needed)
            ]  # fmt: skip
            if numbers[place] == NONE:
                assert not possible
                assert rewards[place] == -1
                continue
            found += 1
            needed = known.needed[numbers[place]]
            assert known.instructions[numbers[place]].set == "seen"
            assert any((needed == other).all() for other in possible)
            assert rewards[place] == int(is_true(following, needed)) - 1
    assert found > 100


def test_the_size_of_chunks_changes_no_instruction(
    dataset: SmallDataset, spoken: Path, tmp_path: Path
) -> None:
    goal, known = dataset.recipe.goal, sentences(dataset)
    relabel(dataset.parquet, tmp_path, SETTINGS, goal, chunk=77, sentences=known)
    assert (tmp_path / TABLE).read_bytes() == (spoken / TABLE).read_bytes()


def test_the_memory_of_sentences_is_predicted(dataset: SmallDataset, spoken: Path) -> None:
    settings = settings_type("gciql").model_validate(
        {"algorithm": "gciql", "conditioning": "goal+language", "text_encoder": "words"}
    )
    job = TrainingJob(
        dataset="small", agent="gciql", seed=0, episodes=dataset.parquet, hindsight=spoken, train=Train(updates=1, snapshots=1),
        settings=settings, checkpoints=spoken, output=spoken,
    )  # fmt: skip
    data = DeviceData(dataset.episodes)
    tensors = [data.observations, data.actions, data.goals, data.raw_goals]
    for split in ("train", "validation"):
        own = BatchSampler(
            data, spoken, settings.batch_sampling, split=split, batch_size=1, seed=0
        ).transitions
        tensors += [own.rows, own.first_row, own.last_row, own.task]
        for table in own.tables.values():
            columns = table.goals, table.rewards, table.instructions, table.instruction_rewards
            tensors += [column for column in columns if column is not None]
    assert own.spoken is not None
    assert own.spoken.values_of_rows is not None
    tensors.append(own.spoken.values_of_rows)
    assert sum(tensor.nbytes for tensor in tensors) == data_bytes(job)
    without = settings_type("gciql").model_validate({"algorithm": "gciql"})
    assert data_bytes(replace(job, settings=without)) < data_bytes(job)


def test_instructions_do_not_change_the_goals(dataset: SmallDataset, spoken: Path) -> None:
    plain, table = pl.read_parquet(dataset.hindsight / TABLE), pl.read_parquet(spoken / TABLE)
    assert table.select(plain.columns).equals(plain)


def test_every_goal_of_a_batch_is_the_embedding_of_a_training_sentence(
    dataset: SmallDataset, spoken: Path
) -> None:
    known = sentences(dataset)
    seen = [known.instructions[number].text for number in known.numbers("seen")]
    vectors = {tuple(vector) for vector in encode(seen, "words").tolist()}
    goals = sampler(dataset, spoken).batches(0, 2)["actor_goals"].reshape(-1, SIZE)
    assert {tuple(vector) for vector in goals.tolist()} <= vectors
    assert len(goals.unique(dim=0)) == len(vectors)


@pytest.mark.parametrize("n_step", [1, 4])
def test_a_label_says_when_the_sentence_becomes_true(
    dataset: SmallDataset, spoken: Path, n_step: int
) -> None:
    source, known = sampler(dataset, spoken, n_step), sentences(dataset)
    draw = source.draw(0, 1, None)
    of_row = CAPTIONS.values(dataset.episodes.achieved_goal)
    instructions = draw.value_goal.instruction
    assert instructions is not None
    masks, ahead = draw.value_target.masks[0], draw.value_target.ahead[0]
    for place in range(64):
        row, last = int(draw.row[0, place]), int(draw.last_row[0, place])
        needed = known.needed[int(instructions[0, place])]
        later = range(row + 1, min(row + n_step, last) + 1)
        when = next((other for other in later if is_true(of_row[other], needed)), None)
        assert bool(masks[place]) == (when is None)
        assert int(ahead[place]) == (later[-1] if when is None else when) - row


def test_with_dropout_a_transition_has_a_goal_or_a_sentence(
    dataset: SmallDataset, spoken: Path
) -> None:
    source = sampler(dataset, spoken, with_goal=True, goal_dropout=0.5)
    draw = source.draw(0, 4, None)
    vectors = draw.vectors(draw.value_goal).reshape(-1, 2 + SIZE)
    says = (vectors[:, 2:] != 0).any(1)
    assert torch.equal(vectors[says, :2], torch.zeros_like(vectors[says, :2]))
    assert torch.equal(
        vectors[~says, :2], draw.data.goals[draw.value_goal.row].reshape(-1, 2)[~says]
    )
    assert 0.2 < says.float().mean() < 0.55  # Transitions without a sentence keep their goal.


def test_embeddings_of_words_have_one_length_and_no_order() -> None:
    first, second, other = encode(["go to the left", "to the left go", "go right"], "words")
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert np.linalg.norm(first) == pytest.approx(LENGTH)


def test_the_pretrained_encoder_knows_synonyms_that_words_do_not() -> None:
    pytest.importorskip("wordllama")
    texts = ["the cup is large", "the mug is big", "the train is late"]

    def nearness(encoder: str) -> float:
        cup, mug, train = encode(texts, encoder)  # type: ignore[arg-type]
        return float(cup @ mug - cup @ train) / LENGTH**2

    assert nearness("wordllama") > nearness("words") + 0.1


def test_a_policy_acts_on_any_sentence_and_in_batches(
    dataset: SmallDataset, tmp_path: Path
) -> None:
    policy = policy_of(dataset, tmp_path / "policy.pt", conditioning="language")
    state = np.zeros(4)
    known = policy.act(state, instruction="move left")
    assert known.shape == (2,)
    assert np.array_equal(known, policy.act(state, instruction=" Move  left."))
    assert not np.allclose(known, policy.act(state, instruction="move right"))
    assert policy.act(state, instruction="an entirely new sentence").shape == (2,)
    several = policy.act(np.zeros((2, 4)), instruction=["move left", "move right"])
    assert np.allclose(several[0], known, atol=1e-6)


def test_a_policy_of_goals_and_sentences_takes_either(
    dataset: SmallDataset, tmp_path: Path
) -> None:
    policy = policy_of(dataset, tmp_path / "policy.pt", conditioning="goal+language")
    state, goal = np.zeros(4), np.ones(2)
    assert not np.allclose(policy.act(state, goal), policy.act(state, instruction="move left"))
    for given in ({}, {"goal": goal, "instruction": "move left"}):
        with pytest.raises(PolicyError, match="either a goal or an instruction"):
            policy.act(state, **given)


def test_errors_of_instructions_name_the_remedy(dataset: SmallDataset, tmp_path: Path) -> None:
    policy = policy_of(dataset, tmp_path / "policy.pt", conditioning="language")
    with pytest.raises(PolicyError, match="no goals; pass 'instruction'"):
        policy.act(np.zeros(4), np.ones(2))
    with pytest.raises(PolicyError, match="pass a sentence"):
        policy.act(np.zeros(4), instruction=[3])  # type: ignore[list-item]
    ceiling = policy_of(
        dataset, tmp_path / "a.pt", conditioning="language", text_encoder="attributes"
    )
    ceiling.act(np.zeros(4), instruction="move left")
    with pytest.raises(PolicyError, match="did you mean 'move left'"):
        ceiling.act(np.zeros(4), instruction="move lef")


def run(dataset: SmallDataset, path: Path, **how: object) -> list[dict[str, object]]:
    recipe = dataset.recipe.model_copy(update={"language": LANGUAGE})
    jobs = episode_jobs(path, as_dataset(recipe), Evaluate(episodes=4), 0, FINAL)
    changed = [EpisodeJob(**{**vars(job), "instructed": Instructed(**how)}) for job in jobs]  # type: ignore[arg-type]
    return [run_episode(job) for job in changed]


def test_an_episode_with_a_sentence_succeeds_when_it_becomes_true(
    dataset: SmallDataset, tmp_path: Path
) -> None:
    path = tmp_path / "policy.pt"
    policy = policy_of(dataset, path, conditioning="language")
    known = {item.text: item for item in sentences(dataset).instructions}
    for kind in SETS:
        for row in run(dataset, path, set=kind):
            sentence = known[str(row["instruction"])]
            assert sentence.set == kind
            assert not CAPTIONS.true_of(np.array(row["start"]), sentence.statement)
    assert [how.set for how in instructed_episodes(policy) if how.given == "sentence"] == list(SETS)


def test_the_sentence_of_an_episode_is_true_of_its_goal_and_independent_of_the_condition(
    dataset: SmallDataset, tmp_path: Path
) -> None:
    path = tmp_path / "policy.pt"
    policy_of(dataset, path, conditioning="goal+language")
    known = {item.text: item for item in sentences(dataset).instructions}
    rows = {
        given: run(dataset, path, given=given) for given in ("sentence", "goal", "wrong", "none")
    }
    told = [[row["instruction"] for row in rows[given]] for given in rows]
    assert told[0] == told[1] == told[2] == told[3]
    assert all(
        CAPTIONS.true_of(np.array(row["goal"]), known[str(row["instruction"])].statement)
        for row in rows["goal"]
    )


def test_the_sentence_of_an_episode_does_not_depend_on_the_draws_of_its_start(
    dataset: SmallDataset, tmp_path: Path
) -> None:
    """An environment draws its start by ``default_rng(seed)``, which equals ``default_rng([seed, 0])``."""
    path = tmp_path / "policy.pt"
    policy_of(dataset, path, conditioning="language")
    policy, start = load_policy(path), np.zeros(2)
    seen = [item for item in sentences(dataset).instructions if item.set == "seen"]
    choices = [item for item in seen if not CAPTIONS.true_of(start, item.statement)]

    def draws_as_the_environment(seed: int) -> bool:
        job = episode_job(path, dataset.recipe, Evaluate(), 0, seed=seed)
        saying = saying_of(job, Instructed(), policy, start, None)
        assert saying is not None
        return saying.instruction == choices[np.random.default_rng(seed).integers(len(choices))]

    assert np.mean([draws_as_the_environment(seed) for seed in range(100)]) < 0.5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"phrasings": ["go {colum}"]}, "names no attribute 'colum'; did you mean 'column'"),
        ({"phrasings": ["go home"]}, "names no attribute in braces"),
        ({"phrasings": ["go {column"]}, "cannot be read"),
        ({"unseen_phrasings": ["be {row}"]}, "a kind of statement that no phrasing"),
        ({"held_out": [{"row": "upper", "column": "middle"}]}, "no value 'middle' of an attribute 'column'"),
        ({"held_out": [{"column": "left"}]}, "must combine the attributes"),
        ({"attributes": {"column": COLUMN, "row": {"dimension": 1, "values": {"a": {"words": ["a"]}}}}}, "needs 'low', 'high' or both"),
        ({"attributes": {"row": ROW, "column": {"dimension": 0, "values": {
            "a": {"low": 0.0, "high": 1.0, "words": ["a"]}, "b": {"low": 1.0, "words": ["b"]}}}}}, "'a' and 'b' overlap or touch"),
    ],
)  # fmt: skip
def test_a_broken_language_is_an_error_with_the_reason(
    changed: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        as_language({**CONTENT, **changed})


def test_one_text_with_two_meanings_is_an_error(dataset: SmallDataset) -> None:
    values = {"a": {"low": 1.0, "words": ["there"]}, "b": {"high": 0.0, "words": ["there"]}}
    ambiguous = as_language(
        {"attributes": {"x": {"dimension": 0, "values": values}}, "phrasings": ["go {x}"]}
    )
    recipe = dataset.recipe.model_copy(update={"language": ambiguous})
    with pytest.raises(SettingsError, match="'go there' says both x=a and x=b"):
        Sentences.of(as_dataset(recipe))


def test_a_dimension_that_goals_do_not_have_is_an_error_before_any_work(
    dataset: SmallDataset, tmp_path: Path
) -> None:
    beyond = as_language(
        {**CONTENT, "attributes": {"row": ROW, "column": {**COLUMN, "dimension": 2}}}
    )
    broken = as_dataset(dataset.recipe.model_copy(update={"language": beyond}))
    message = (
        "language.attributes.column.dimension: there is no dimension 2; goals have 2 dimensions"
    )
    with pytest.raises(SettingsError, match=message):
        check_tasks(broken, "datasets/recipes/small.yaml")
    with pytest.raises(SettingsError, match=message):
        ingest(broken, dataset.minari, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text_encoder": "attributes"}, "'text_encoder' has no effect with 'conditioning: goal'"),
        ({"conditioning": "language", "goal_dropout": 0.5}, "which has no goal"),
        ({"conditioning": "language", "goal_encoder": "dual"}, "does not go with|represents the goal"),
    ],
)  # fmt: skip
def test_settings_of_instructions_that_do_not_fit_are_errors(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings(algorithm="bc", **settings)


def test_an_agent_that_learns_from_goals_that_are_states_takes_no_instructions() -> None:
    from offline_gcrl.agents.wgcsl import Settings as OfWGCSL

    with pytest.raises(ValidationError, match="learns from goals that are states"):
        OfWGCSL(algorithm="wgcsl", conditioning="language")


def test_a_film_has_different_sentences_from_one_start(
    dataset: SmallDataset, tmp_path: Path
) -> None:
    path = tmp_path / "policy.pt"
    policy_of(dataset, path, conditioning="language")
    recipe = dataset.recipe.model_copy(update={"language": LANGUAGE})
    jobs = episode_jobs(path, as_dataset(recipe), Evaluate(episodes=2), 0, FINAL)
    probe = {Probe("instructed", "seen sentence", 0): [replace(jobs[0], instructed=Instructed())]}
    (final, film) = plan_videos({(0, FINAL): jobs}, probe, Video(episodes=3), tmp_path)
    assert final.path.name == "rollouts.mp4"
    assert film.path == tmp_path / "seed-0" / "instructed.mp4"
    assert [job.instructed.text for job in film.jobs if job.instructed] == [
        "go to the upper left", "go to the lower left", "go to the lower right",
    ]  # fmt: skip
    rows = [run_episode(job) for job in film.jobs]
    assert len({str(row["start"]) for row in rows}) == 1
    assert [row["instruction"] for row in rows] == [
        job.instructed.text for job in film.jobs if job.instructed
    ]


def test_the_report_has_a_row_for_each_kind_of_episode() -> None:
    table = pl.DataFrame(
        {
            "task": ["a", "a", "a", "a"],
            "set": ["seen", "seen", "phrasing", "seen"],
            "given": ["sentence", "sentence", "sentence", "none"],
            "success_any": [True, False, True, False],
            "success": [False, False, True, False],
        }
    )

    class Found:
        instructed = (table, table)
        column = "success"

    class Silent:
        instructed = ()
        column = "success"

    shown = sentences_table("maze", {"a": Found(), "b": Silent()})
    rows = [list(map(cell_text, row)) for row in shown.rows]
    assert shown.heading == ["agent", "given", "any step", "last step"]
    assert [row[:2] for row in rows] == [
        ["a", "seen sentences"], ["a", "unseen phrasings"], ["a", "no sentence"],
    ]  # fmt: skip
    assert rows[0][2].startswith("0.50 [")
    assert rows[0][3].startswith("0.00 [")
    assert "becomes true" in shown.caption
    assert not sentences_by_task_table("maze", {"a": Found()}).rows


def test_the_report_on_a_suite_has_a_row_for_each_task() -> None:
    table = pl.DataFrame(
        {
            "task": ["open", "close", "open", "close", "open"],
            "set": ["seen", "seen", "phrasing", "phrasing", "seen"],
            "given": ["sentence", "sentence", "sentence", "sentence", "wrong"],
            "success_any": [True, False, True, True, False],
            "success": [False, False, False, False, False],
        }
    )

    class Found:
        instructed = (table,)
        column = "success_any"

    assert "becomes true" not in sentences_table("doors", {"a": Found()}).caption
    shown = sentences_by_task_table("doors", {"a": Found()})
    assert shown.heading == [
        "agent", "task", "seen sentences", "unseen phrasings", "wrong sentences",
    ]  # fmt: skip
    rows = [[cell_text(cell).split(" ")[0] for cell in row] for row in shown.rows]
    assert rows == [["a", "open", "1.00", "1.00", "0.00"], ["a", "close", "0.00", "1.00", ""]]


def test_a_statement_becomes_true_only_before_the_last_state_of_which_it_is_true() -> None:
    true = np.array([False, True, False, True, False, False, True])
    found = becomes_true(true, np.array([0, 5]), np.array([5, 2]))
    assert found.tolist() == [True, False, True, False, False, True, False]


def test_the_card_counts_sentences_and_statements(dataset: SmallDataset) -> None:
    recipe = dataset.recipe.model_copy(update={"language": LANGUAGE})
    data = IngestedDataset(dataset.parquet, as_dataset(recipe))
    found = measure_sentences(data)
    assert found is not None
    assert found["sentences"] == {"seen": 8, "phrasing": 3, "synonym": 5, "combination": 1}
    row = next(item for item in found["statements"] if item["statement"] == "column=left")
    expected = (dataset.episodes.achieved_goal[:, 0] <= np.float32(-0.3)).mean()
    assert row["true_share"] == pytest.approx(expected)
    page = "\n".join(sentences_section({"language": found}))
    assert "| row=upper, column=right | held out |" in page
    assert measure_sentences(IngestedDataset(dataset.parquet, dataset.resolved)) is None


def test_a_served_policy_takes_an_instruction_as_a_parameter(
    dataset: SmallDataset, tmp_path: Path
) -> None:
    policy = policy_of(dataset, tmp_path / "policy.pt", conditioning="language")
    assert {spec.name for spec in signature(policy).params} == {"task", "instruction"}
    served = ServedPolicy(policy)
    actions = served.predict({"observation": np.zeros(4)}, {"instruction": "move left"})
    assert np.array_equal(actions[0], policy.act(np.zeros(4), instruction="move left"))


@pytest.mark.parametrize("braces", ["{row:d}", "{row!x}", "{row:.1}", "{row:>{n}}"])
def test_braces_of_a_phrasing_have_a_name_alone(braces: str) -> None:
    with pytest.raises(ValidationError, match="braces contain a name alone"):
        as_language({**CONTENT, "phrasings": [f"go to {braces}"]})


def test_sentences_of_a_suite_name_its_tasks(dataset: SmallDataset) -> None:
    words = as_language({"phrasings": ["take a walk"], "unseen_phrasings": ["stroll about"]})
    first = dataset.recipe.model_copy(update={"task": "a", "instruction": "Go.", "language": words})
    second = dataset.recipe.model_copy(update={"task": "b", "instruction": "Stop."})
    known = Sentences.of(as_dataset(first, second))
    assert known is not None
    assert known.captions is None
    assert [(item.text, item.task, item.set) for item in known.instructions] == [
        ("Go.", "a", "seen"), ("take a walk", "a", "seen"), ("stroll about", "a", "phrasing"),
        ("Stop.", "b", "seen"),
    ]  # fmt: skip
    ceiling = embeddings(known.instructions, "attributes", None)
    assert np.array_equal(ceiling[0], ceiling[1])
    assert not np.array_equal(ceiling[0], ceiling[3])
    vocabulary = Vocabulary(known, embeddings(known.instructions, "words", None), "words")
    assert np.array_equal(vocabulary.of_task("b"), vocabulary.embedding("stop"))
    several = vocabulary.embedding(np.array(["go", "stop"]))
    assert np.array_equal(several[1], vocabulary.of_task("b"))
    with pytest.raises(PolicyError, match="pass a sentence, or a list of sentences"):
        vocabulary.embedding(3)  # type: ignore[arg-type]
    both = vocabulary.with_goals(np.ones(2, np.float32), vocabulary.embedding("go"), 2)
    assert both.shape == (2 + SIZE,)


def test_a_batch_of_a_suite_has_a_sentence_of_its_task(
    dataset: SmallDataset, tmp_path: Path
) -> None:
    tasks = dataset.episodes.table["episode"] % 2
    names = tasks.cast(pl.String).replace({"0": "a", "1": "b"}).alias("task")
    episodes = replace(
        dataset.episodes,
        schema={**dataset.episodes.schema, "tasks": ["a", "b"]},
        table=dataset.episodes.table.with_columns(names),
    )
    recipes = [
        dataset.recipe.model_copy(update={"task": task, "instruction": f"do {task}"})
        for task in ("a", "b")
    ]
    known = Sentences.of(as_dataset(*recipes))
    assert known is not None
    shutil.copy(dataset.hindsight / TABLE, tmp_path / TABLE)
    write_json(tmp_path / INSTRUCTIONS, known.as_json())
    speech = Speech(encoder="words", with_goal=True)
    sampling = Sampling(fields=("tasks", "actor_goals"), actor_goals={"future": 1.0}, speech=speech)
    source = BatchSampler(
        DeviceData(episodes), tmp_path, sampling, split="train", batch_size=32, seed=0
    )
    batch = source.batches(0, 1)
    said = encode(["do a", "do b"], "words")[batch["tasks"][0].numpy()]
    assert np.array_equal(batch["actor_goals"][0, :, 2:].numpy(), said)
    assert batch["actor_goals"][0, :, :2].abs().sum() > 0  # The goal is not left out.


def test_other_words_in_the_same_table_are_another_training(
    dataset: SmallDataset, spoken: Path, tmp_path: Path
) -> None:
    job = TrainingJob(
        dataset="small",
        agent="bc",
        seed=0,
        episodes=dataset.parquet,
        hindsight=tmp_path,
        train=Train(updates=1, snapshots=1),
        settings=Settings(algorithm="bc", conditioning="language"),
        checkpoints=tmp_path,
        output=tmp_path,
    )
    for name in (TABLE, INSTRUCTIONS):
        shutil.copy(spoken / name, tmp_path / name)
    before = content_digest(job)
    text = (tmp_path / INSTRUCTIONS).read_text()
    (tmp_path / INSTRUCTIONS).write_text(text.replace("west", "port"))
    assert content_digest(job) != before
