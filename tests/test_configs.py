"""Every recipe: complete, valid, documented; the command line refuses what it does not know."""

import dataclasses
import importlib
import pathlib

import jax
import pytest

from configs import ablation, base, dir_interhand
from dir_jax.models.types import IMAGE_SIZE
from dir_jax.training import run
from dir_jax.training.command import main, parse
from tests.hands import toy_hands

ROOT = pathlib.Path(__file__).parent.parent
OTHERS = {"__init__", "base"}
NAMES = sorted({path.stem for path in (ROOT / "configs").glob("*.py")} - OTHERS)


ROWS = [f"ablation:{prefix}{row}" for prefix in ("", ablation.SMALL) for row in ablation.ROWS]


def recipe(name):
    module, _, argument = name.partition(":")
    return importlib.import_module(f"configs.{module}").get_config(*filter(None, [argument]))


@pytest.mark.parametrize("name", [*NAMES, *ROWS])
def test_every_recipe_has_the_base_fields_and_valid_values(name):
    config = recipe(name)
    assert base.flat(config).keys() == base.FIELDS.keys()
    base.check(config)
    file = name.partition(":")[0]
    documentation = importlib.import_module(f"configs.{file}").__doc__
    assert f"python train.py --config configs/{file}.py" in documentation
    for group in (config, config.model, config.data.augmentation, config.optimizer):
        with pytest.raises((AttributeError, KeyError), match="batchsize"):
            group.batchsize = 3  # a slip inside a recipe is refused like one on the command line


def test_the_promised_recipes_are_there():
    assert {"quickstart", "smoke", "dir_interhand", "dir_paper", "ablation"} <= set(NAMES)
    assert {"t1", "t2", "t3"} <= set(ablation.ROWS)
    numbers = {row.label[0] for row in ablation.ROWS.values() if row.table == ablation.PARTS}
    assert numbers == set("12345678")


def flat_recipe(name):
    return base.flat(recipe(name))


def changed(fields, others):
    return {name for name, value in fields.items() if others[name] != value}


def test_ablation_rows_differ_as_the_tables_say():
    full = {row: flat_recipe(f"ablation:{row}") for row in ablation.ROWS}
    paper = flat_recipe("dir_paper")
    assert changed(full["mfp"], paper) == changed(full["t2"], paper) == set()
    assert changed(full["t1"], paper) == {"model.stages"}
    assert changed(full["no_refinement"], paper) == {"model.stages"}
    both = full["graph_transformer"]
    assert changed(full["graph"], both) == {"model.transformer_blocks"}
    assert changed(full["transformer"], both) == {"model.graph"}
    assert changed(full["sfp"], full["mfp"]) == {"model.planes"}
    assert changed(full["plain"], full["no_refinement"]) == {
        "model.attention",
        "loss.distance",
        "data.augmentation.blur",
        "optimizer.learning_rate",
    }
    schedule = flat_recipe("dir_interhand")
    assert (schedule["optimizer.learning_rate"], schedule["train.batch_size"]) == (3e-4, 64)
    with pytest.raises(ValueError, match="no ablation 'row9'; wanted one of no_refinement"):
        recipe("ablation:row9")


def test_small_ablations_differ_from_each_other_as_the_full_ones_do():
    full = {row: flat_recipe(f"ablation:{row}") for row in ablation.ROWS}
    small = {row: flat_recipe(f"ablation:small-{row}") for row in ablation.ROWS}
    for first in ablation.ROWS:
        for second in ablation.ROWS:
            wanted = changed(full[first], full[second])
            assert changed(small[first], small[second]) == wanted, (first, second)
    quick = flat_recipe("quickstart")
    for name in ("data.synthesize", "data.synthesize_train", "train.batch_size"):
        assert small["plain"][name] == quick[name]
    rate = "optimizer.learning_rate"
    assert small["plain"][rate] == pytest.approx(small["mfp"][rate] / 3)
    assert small["mfp"]["train.initial_checkpoint"] == ""  # every row learns by itself


def test_augmentation_is_the_pipelines_own():
    augment = pytest.importorskip("input_pipeline.augment")
    assert base.get_config().data.augmentation.to_dict() == dataclasses.asdict(
        augment.AugmentConfig()
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ablation:plain", "ablation:t3", "quickstart"])
def test_networks_of_full_size_can_be_built(name):
    from dir_jax.models.network import create_model

    model = create_model(recipe(name).model.to_dict(), toy_hands())
    images = jax.ShapeDtypeStruct((2, IMAGE_SIZE, IMAGE_SIZE, 3), "float32")
    output = jax.eval_shape(
        lambda key, x: model.init_with_output(key, x)[0], jax.random.key(0), images
    )
    assert len(output.stages) == recipe(name).model.stages + 1


class TestCommandLine:
    CONFIG = ("--config", str(ROOT / "configs" / "smoke.py"))
    ABLATION = str(ROOT / "configs" / "ablation.py")

    def test_fields_can_be_set(self):
        config, workdir = parse(
            [*self.CONFIG, "--workdir", "w", "--config.train.batch_size=6",
             "--config.data.dir=/x", "--config.model.bone_distance=(1.0,3.0,3.0)"]
        )  # fmt: skip
        assert (config.train.batch_size, config.data.dir, str(workdir)) == (6, "/x", "w")
        assert config.model.bone_distance == (1.0, 3.0, 3.0)

    @pytest.mark.parametrize("given", [["--config", "ablation:t3"], ["--config=ablation:t3"]])
    def test_shipped_recipes_go_by_their_name(self, given):
        config, _ = parse([*given, "--config.mano", "smoke", "--workdir", "smoke"])
        assert (config.model.stages, config.mano) == (3, "smoke")

    def test_help_lists_every_field(self, capsys):
        assert main(["--help"]) == 0
        text = capsys.readouterr().out
        for name, field in base.FIELDS.items():
            assert f"  --config.{name}={field.default}\n" in text
            assert f"      {field.wanted}: {field.meaning}\n" in f"{text}\n"


def test_resuming_with_another_recipe_is_refused_with_the_fields(tmp_path):
    saved = run.plain(dir_interhand.get_config())
    config = dir_interhand.get_config()
    run.check_fits(config, saved, tmp_path)
    config.log.every = 7  # of no consequence for the numbers
    config.train.keep = 5
    config.data.dir = "elsewhere"
    run.check_fits(config, saved, tmp_path)
    config.train.batch_size = 32
    config.model.stages = 3
    with pytest.raises(ValueError) as error:
        run.check_fits(config, saved, tmp_path)
    assert "model.stages: 3 here, 2 in the checkpoint" in str(error.value)
    assert "train.batch_size: 32 here, 64 in the checkpoint" in str(error.value)


def test_steps_of_a_run():
    config = base.get_config()
    config.train.epochs, config.train.batch_size = 2.0, 64
    assert run.total_steps(config, 100) == 4
    config.train.steps = 9
    assert run.total_steps(config, 100) == 9


@pytest.mark.parametrize(("text", "message"), [("{", "is not JSON"), ("[1]", "holds no recipe")])
def test_a_work_folder_without_a_recipe_is_named(tmp_path, text, message):
    assert run.read_config(tmp_path) is None
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        run.read_config(tmp_path)
