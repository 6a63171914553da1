"""Every recipe: complete, valid, documented; the command line refuses what it does not know."""

import dataclasses
import importlib
import pathlib

import jax
import pytest

from configs import base
from dir_jax.losses.terms import loss_config
from dir_jax.models.config import model_config
from dir_jax.models.types import IMAGE_SIZE
from dir_jax.training import settings
from dir_jax.training.command_line import parse
from dir_jax.training.exits import BadInputError
from input_pipeline.synthetic.meetings import MEETINGS
from input_pipeline.synthetic.plan import FULL_VARIETY
from tests.dir_jax.training_fixtures import toy_hands

ROOT = pathlib.Path(__file__).parent.parent
NAMES = sorted(p.stem for p in (ROOT / "configs").glob("*.py") if p.stem != "__init__")


def recipe(name):
    return importlib.import_module(f"configs.{name}").get_config()


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_has_the_base_fields_and_valid_values(name):
    config = recipe(name)
    assert settings.flat(settings.plain(config)).keys() == (
        settings.flat(settings.plain(base.get_config())).keys()
    )
    settings.check_values(config)
    model_config(config.model.to_dict())
    loss_config(config.loss.to_dict())
    documentation = importlib.import_module(f"configs.{name}").__doc__
    assert f"python train.py --config configs/{name}.py --workdir" in documentation


def test_synthesised_data_are_as_varied_as_the_command_makes_them():
    data = base.get_config().data
    for name in ("views", "single_share", "yaw", "pitch"):
        assert data[f"synthesize_{name}"] == getattr(FULL_VARIETY, name)
    assert data.synthesize_meetings == ()  # all of them, as without --meetings
    assert FULL_VARIETY.meetings == tuple(MEETINGS)


def test_the_promised_recipes_are_there():
    rows = {f"ablation_{n}_" for n in range(1, 9)}
    assert {"quickstart", "smoke", "dir_interhand", "dir_paper"} <= set(NAMES)
    assert {"ablation_t1", "ablation_t2", "ablation_t3"} <= set(NAMES)
    assert all(any(name.startswith(row) for name in NAMES) for row in rows)


def test_ablation_rows_differ_as_the_tables_say():
    plain = {name: settings.flat(settings.plain(recipe(name))) for name in NAMES}

    def changed(name, origin):
        return {k for k, v in plain[name].items() if plain[origin][k] != v}

    assert changed("ablation_8_mfp", "dir_paper") == set()
    assert changed("ablation_t2", "dir_paper") == set()
    assert changed("ablation_t1", "dir_paper") == {"model.stages"}
    assert changed("ablation_1_no_refinement", "dir_paper") == {"model.stages"}
    assert changed("ablation_3_graph", "ablation_5_graph_transformer") == {
        "model.transformer_blocks"
    }
    assert changed("ablation_4_transformer", "ablation_5_graph_transformer") == {"model.graph"}
    assert changed("ablation_6_sfp", "ablation_8_mfp") == {"model.planes"}
    assert changed("ablation_1_none", "ablation_1_no_refinement") == {
        "model.attention",
        "loss.distance",
        "data.augmentation.blur",
        "optimizer.learning_rate",
    }
    assert plain["dir_interhand"]["optimizer.learning_rate"] == 3e-4
    assert plain["dir_interhand"]["train.batch_size"] == 64


def test_augmentation_is_the_pipelines_own():
    augment = pytest.importorskip("input_pipeline.augment")
    assert base.get_config().data.augmentation.to_dict() == dataclasses.asdict(
        augment.AugmentConfig()
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["ablation_1_none", "ablation_2_corrections", "ablation_6_sfp", "ablation_7_mhp",
             "ablation_t3", "dir_interhand", "dir_paper", "quickstart", "smoke"]
)  # fmt: skip
def test_every_kind_of_network_can_be_built(name):
    from dir_jax.models.network import create_model

    model = create_model(recipe(name).model.to_dict(), toy_hands())
    images = jax.ShapeDtypeStruct((2, IMAGE_SIZE, IMAGE_SIZE, 3), "float32")
    output = jax.eval_shape(
        lambda key, x: model.init_with_output(key, x)[0], jax.random.key(0), images
    )
    assert len(output.stages) == recipe(name).model.stages + 1


class TestCommandLine:
    CONFIG = ("--config", str(ROOT / "configs" / "smoke.py"))

    def test_fields_can_be_set(self):
        config, workdir = parse(
            [*self.CONFIG, "--workdir", "w", "--config.train.batch_size=6",
             "--config.data.dir=/x", "--config.model.bone_distance=(1.0,3.0,3.0)"], ""
        )  # fmt: skip
        assert (config.train.batch_size, config.data.dir, workdir) == (6, "/x", "w")
        assert config.model.bone_distance == (1.0, 3.0, 3.0)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([*CONFIG, "--workdir", "w", "--config.train.batchsize=6"], "batchsize"),
            ([*CONFIG, "--workdir", "w", "--config.train.batch_size=six"], "six"),
            ([*CONFIG, "--workdir", "w", "--confg.train.steps=1"], "confg"),
            ([*CONFIG, "--workdir", "w", "left_over"], "left_over"),
            ([*CONFIG], "--workdir is missing"),
            (["--workdir", "w"], "--config is missing"),
            (["--config", "configs/none.py", "--workdir", "w"], "configs/none.py"),
        ],
    )
    def test_what_is_not_understood_is_refused_in_one_line(self, capsys, arguments, message):
        assert parse(arguments, "") == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert message in error
        assert error.count("\n") == 1

    def test_help_lists_every_field(self, capsys):
        assert parse(["--help"], "Trains.") == 0
        text = capsys.readouterr().out
        assert "--config.optimizer.learning_rate=0.0003" in text
        assert "--config.model.stages=2" in text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("train.batch_size", 0),
        ("optimizer.learning_rate", float("nan")),
        ("optimizer.learning_rate", -1.0),
        ("validation.every", 0),
        ("parallel.backend", "threads"),
        ("train.epochs", 0.0),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(field, value):
    config = base.get_config()
    group, name = field.split(".")
    config[group][name] = value
    with pytest.raises(BadInputError, match=field):
        settings.check_values(config)


def test_going_on_with_another_recipe_is_refused_with_the_fields(tmp_path):
    saved = settings.plain(base.get_config())
    config = base.get_config()
    settings.check_fits(config, saved, tmp_path)
    config.log.every = 7  # of no consequence for the numbers
    config.train.keep = 5
    config.data.dir = "elsewhere"
    settings.check_fits(config, saved, tmp_path)
    config.train.batch_size = 32
    config.model.stages = 3
    with pytest.raises(BadInputError) as error:
        settings.check_fits(config, saved, tmp_path)
    assert "model.stages: 3 here, 2 in the checkpoint" in str(error.value)
    assert "train.batch_size: 32 here, 64 in the checkpoint" in str(error.value)


def test_steps_of_a_run():
    config = base.get_config()
    config.train.epochs, config.train.batch_size = 2.0, 64
    assert settings.total_steps(config, 100) == 4
    config.train.steps = 9
    assert settings.total_steps(config, 100) == 9
