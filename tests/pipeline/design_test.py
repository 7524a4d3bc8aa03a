import dataclasses

from jaxpolicy.algorithms.diffusion import DiffusionConfig
from jaxpolicy.data.formats import rlds_writer
from jaxpolicy.networks.denoisers import DenoiserConfig
from jaxpolicy.networks.encoder import NetworkConfig
from jaxpolicy.pipeline import design, stages
from jaxpolicy.pipeline.experiment import ExperimentConfig
from jaxpolicy.training.config import ArenaConfig
from tests.training import fixtures
from tests.training import point as online_point


def small(**values):
    network = NetworkConfig(patch=4, widths=(8,), depths=(1,), hidden=16, layers=1)
    return ExperimentConfig(network=network, **values)


def test_a_network_is_described_before_there_is_data(tmp_path, point):
    found = design.run(small(), tmp_path / "run").table
    # PointEnv gives one camera, whose features (8 spatial softmax points) meet 2 numbers of
    # proprioception: 16 hidden units have (16 + 2) * 16 + 16 parameters; the head gives 3.
    sizes = {row.path: row.parameters for row in found.rows}
    assert sizes["mlp",] == (2 * 8 + 2) * 16 + 16
    assert sizes["head",] == 16 * 3 + 3
    assert not (tmp_path / "run").exists()


def test_a_network_is_described_for_the_dataset_that_is_there(tmp_path):
    rlds_writer.write(tmp_path / "dataset", iter(fixtures.source(4)), fixtures.spec(), "tiny")
    found = design.run(small(), tmp_path).table
    # 3 numbers of proprioception, actions of 2; no camera.
    sizes = {row.path: row.parameters for row in found.rows}
    assert sizes == {("mlp",): 3 * 16 + 16, ("mlp", "Dense_0"): 64, ("head",): 16 * 2 + 2}
    assert found.parameters == 98


def online_experiment(monkeypatch, algorithm, **settings):
    """16 worlds, some of which would begin where an expert passed: there is none."""
    monkeypatch.setattr(stages, "make_world", lambda config: online_point.world())
    plain = online_point.config(algorithm, **settings)
    fields = {f.name: getattr(plain, f.name) for f in dataclasses.fields(plain)}
    return ExperimentConfig(**fields | {"arena": ArenaConfig(expert_starts=0.5)})


def test_actor_and_critic_are_described(tmp_path, monkeypatch):
    found = design.run(online_experiment(monkeypatch, "ppo"), tmp_path / "run")
    # The actor sees 2 numbers, the critic those and 2 of the state; 32 hidden units; one action
    # of 2 numbers, with standard deviations of its own, and one value.
    rows = {row.path: (row.parameters, row.flops) for row in found.table.rows}
    actor, critic = (2 * 32 + 32, 32 * 2 + 2), (4 * 32 + 32, 32 + 1)
    assert rows["actor", "policy", "mlp"] == (actor[0], 2 * 2 * 32)
    assert rows["actor", "policy", "head"] == (actor[1], 2 * 32 * 2)
    assert rows["actor",] == (sum(actor) + 2, 2 * (2 * 32 + 32 * 2))
    assert rows["critic",] == (sum(critic), 2 * (4 * 32 + 32))
    # 16 worlds, 16 decisions, 4 minibatches.
    assert found.table.batch_size == 64
    # Observations of 2 and 2 numbers and the same afterwards, 2 of the trace, log probability,
    # reward, two ends and the success: 15 numbers of 4 bytes.
    assert found.table.others["a rollout of 16 decisions in each"] == 16 * 16 * 15 * 4
    assert found.table.others["16 worlds"] > 16 * 4 * 4
    assert [s.name for s in found.policy_spec.critic] == ["privileged", "proprio"]
    assert (found.devices, (tmp_path / "run").exists()) == (1, False)


def test_denoising_steps_that_learn_are_described(tmp_path, monkeypatch):
    diffusion = DiffusionConfig(
        denoiser="mlp",
        denoisers=DenoiserConfig(embedding=8, mlp_widths=(32,)),
        sample_steps=4,
    )
    flops = {}
    for k in (0, 1):
        settings = {"diffusion": diffusion, "finetune_steps": k}
        table = design.run(
            online_experiment(monkeypatch, "dppo", **settings), tmp_path
        ).table
        flops[k] = {row.path: row.flops for row in table.rows}
    policy = ("actor", "policy", "denoiser")
    # All 4 steps ask the denoiser; observations are encoded once.
    assert flops[0][policy] == 4 * flops[1][policy] > 0
    assert flops[0]["critic",] == flops[1]["critic",]
