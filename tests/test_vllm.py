"""Sampling by vLLM: what we ask it and make of its answers, with a stand-in for the engine; weights that differ are noticed."""

import http.server
import importlib.util
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from r1lib.errors import R1Error
from r1lib.policy import Policy, log_probabilities
from r1lib.sampling import Rollout, SamplingSettings, vllm
from r1lib.sampling.torch import TorchSampler
from r1lib.training import grpo

PROMPTS = ["1 + 1 =", "the first of them"]
SETTINGS = SamplingSettings(max_new_tokens=8, temperature=0.9)


class Copy:
    """An engine with a copy of the weights, as vLLM has one; error: what its kernels are off by, in nats."""

    def __init__(self, policy: Policy, error: float = 0.0, stale: bool = False) -> None:
        self.policy, self.error, self.stale, self.taken = policy, error, stale, 0

    def take(self, policy: Policy) -> None:
        self.taken += 1
        if not self.stale:
            self.policy = policy

    def draw(self, prompt_ids, samples, settings, stops, seed) -> list[tuple[list[int], list[float]]]:
        drawn = TorchSampler(self.policy).sample([self.policy.decode(ids) for ids in prompt_ids], samples, settings, seed=seed)
        return [(rollout.ids, [logprob - self.error for logprob in rollout.logprobs]) for rollout in drawn]


def test_answers_are_as_those_of_our_sampler(tiny_policy: Policy) -> None:
    engine = Copy(tiny_policy)
    sampler = vllm.VLLMSampler(tiny_policy, engine)
    rollouts = sampler.sample(PROMPTS, 3, SETTINGS, seed=4)
    ours = TorchSampler(tiny_policy).sample(PROMPTS, 3, SETTINGS, seed=4)
    for one, other in zip(rollouts, ours, strict=True):
        assert (one.prompt_index, one.prompt_ids, one.ids, one.text, one.finished) == (
            other.prompt_index, other.prompt_ids, other.ids, other.text, other.finished)
        assert one.policy_logprobs == pytest.approx(other.logprobs, abs=1e-4)
    assert sampler.difference["mean"] < 1e-4 and engine.taken == 1
    sampler.sample(PROMPTS, 1, SETTINGS, seed=0)
    assert engine.taken == 2                                # weights go over before every call


def test_the_policy_says_what_it_finds_itself(tiny_policy: Policy) -> None:
    sampler = vllm.VLLMSampler(tiny_policy, Copy(tiny_policy, error=0.05))
    rollouts = sampler.sample(PROMPTS, 4, SETTINGS, seed=1)
    assert sampler.difference == pytest.approx({"mean": 0.05, "max": 0.05}, abs=1e-3)
    found, _, _ = log_probabilities(tiny_policy.model, [r.prompt_ids for r in rollouts], [r.ids for r in rollouts], temperature=0.9)
    for rollout, row in zip(rollouts, found.tolist(), strict=True):
        assert rollout.policy_logprobs == pytest.approx(row[:len(rollout.ids)], abs=1e-4)
        assert rollout.policy_logprobs != pytest.approx(rollout.logprobs, abs=1e-2)


def test_weights_that_have_not_arrived_are_an_error(tiny_policy: Policy, tmp_path: Path) -> None:
    tiny_policy.save(tmp_path / "before")
    with torch.no_grad():
        for parameter in tiny_policy.model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    with pytest.raises(R1Error, match="nats a token more or less probable.*weights are not the policy's"):
        vllm.VLLMSampler(tiny_policy, Copy(Policy.load(tmp_path / "before"), stale=True)).sample(PROMPTS, 8, SETTINGS, seed=0)
    with pytest.raises(R1Error, match="nan nats"):
        vllm.VLLMSampler(tiny_policy, Copy(tiny_policy, error=float("nan"))).sample(PROMPTS, 1, SETTINGS, seed=0)


def test_another_distribution_on_purpose_is_not_compared(tiny_policy: Policy) -> None:
    sampler = vllm.VLLMSampler(tiny_policy, Copy(tiny_policy, error=3.0))
    rollouts = sampler.sample(PROMPTS, 2, SamplingSettings(8, top_k=1), seed=0)
    assert all(rollout.policy_logprobs is None for rollout in rollouts) and sampler.difference == {}


def test_an_empty_prompt_is_named(tiny_policy: Policy) -> None:
    with pytest.raises(R1Error, match="prompt 1 is empty"):
        vllm.VLLMSampler(tiny_policy, Copy(tiny_policy)).sample(["a", ""], 2, SETTINGS, seed=0)


# ------------------------------------------------------------------------------------------------------------------------------------------
# Learning from answers that another engine drew

def gradient(policy: Policy, rollouts: Sequence[Rollout], recipe: grpo.GRPORecipe, advantages: torch.Tensor) -> torch.Tensor:
    policy.model.zero_grad()
    grpo._gradient(policy, rollouts, advantages, recipe, None, grpo.ALONE)
    return torch.cat([parameter.grad.flatten() for parameter in policy.model.parameters()])


def test_tokens_are_weighted_by_what_they_were_drawn_with(tiny_policy: Policy) -> None:
    """An engine that is everywhere 0.05 nats too low: each token counts e^0.05 times. With no word of the policy's, nothing is weighted."""
    recipe = grpo.GRPORecipe(prompts_per_step=2, samples_per_prompt=3, max_new_tokens=8, temperature=0.9)
    advantages = torch.tensor([1.0, -1.0, 0.5, -0.5, 0.25, -0.25])
    exact = vllm.VLLMSampler(tiny_policy, Copy(tiny_policy)).sample(PROMPTS, 3, SETTINGS, seed=2)
    off = vllm.VLLMSampler(tiny_policy, Copy(tiny_policy, error=0.05)).sample(PROMPTS, 3, SETTINGS, seed=2)
    plain = TorchSampler(tiny_policy).sample(PROMPTS, 3, SETTINGS, seed=2)
    wanted = gradient(tiny_policy, plain, recipe, advantages)
    assert torch.allclose(gradient(tiny_policy, exact, recipe, advantages), wanted, atol=1e-4)
    assert torch.allclose(gradient(tiny_policy, off, recipe, advantages), wanted * torch.tensor(0.05).exp(), atol=1e-4)


def test_a_weight_is_at_most_two() -> None:
    weights = grpo.truncated_weights(torch.tensor([[-1.0, -1.0, -1.0]]), torch.tensor([[-1.0, -9.0, -0.5]]))
    assert weights.tolist() == [[1.0, 2.0, pytest.approx(0.60653, abs=1e-4)]]


def test_the_difference_is_measured_in_training(tiny_policy: Policy) -> None:
    rollouts = vllm.VLLMSampler(tiny_policy, Copy(tiny_policy, error=0.1)).sample(PROMPTS, 2, SETTINGS, seed=2)
    recipe = grpo.GRPORecipe(prompts_per_step=2, samples_per_prompt=2, max_new_tokens=8, temperature=0.9)
    optimizer = torch.optim.SGD(tiny_policy.model.parameters(), lr=0)
    row = grpo.improve(tiny_policy, optimizer, rollouts, torch.tensor([[1.0, -1.0], [1.0, -1.0]]), recipe, step=0, seed=0)
    assert row["sampling/sampling_logp_difference/mean"] == pytest.approx(0.1, abs=1e-3)
    assert row["clip_ratio/region_mean"] == 0               # the ratio compares the policy with itself


# ------------------------------------------------------------------------------------------------------------------------------------------
# A server

class Handler(http.server.BaseHTTPRequestHandler):
    """What `vllm serve` answers, in the form of its version 0.24; a request names no model of ours."""

    def do_GET(self) -> None:
        self.say({"data": [{"id": "policy"}]} if self.path == "/v1/models" else None)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = json.loads(body) if body else None
        self.server.asked.append((self.path, asked))
        if self.path in self.server.missing:
            self.send_error(404)
        elif self.path == "/collective_rpc":
            self.server.policy = Policy.load(asked["kwargs"]["weights_path"])
            self.say(None)
        elif self.path == "/v1/completions":
            drawn = Copy(self.server.policy).draw(asked["prompt"], asked["n"], SamplingSettings(asked["max_tokens"], asked["temperature"]),
                                                  asked["stop_token_ids"], asked["seed"])
            choices = [{"index": i, "token_ids": ids, "logprobs": {"token_logprobs": logprobs}, "text": ""}
                       for i, (ids, logprobs) in enumerate(drawn)]
            self.say({"choices": choices[::-1][self.server.lost:]})
        else:
            self.say(None)

    def say(self, content: object) -> None:
        data = b"" if content is None else json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def engine_server() -> Iterator[http.server.HTTPServer]:
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.asked, running.missing, running.lost = [], set(), 0
    running.address = f"http://127.0.0.1:{running.server_port}"
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


def test_a_server_is_given_the_weights_and_asked_by_tokens(engine_server: http.server.HTTPServer, tiny_policy: Policy) -> None:
    with vllm.sampler_of(engine_server.address, tiny_policy) as sampler:
        rollouts = sampler.sample(PROMPTS, 2, SETTINGS, seed=3)
    assert [path for path, _ in engine_server.asked] == ["/collective_rpc", "/reset_prefix_cache", "/v1/completions"]
    asked = engine_server.asked[-1][1]
    assert asked["prompt"] == tiny_policy.encode(PROMPTS) and asked["stop_token_ids"] == sorted(tiny_policy.stop_ids)
    assert (asked["n"], asked["max_tokens"], asked["temperature"], asked["top_k"], asked["logprobs"]) == (2, 8, 0.9, -1, 0)
    assert [rollout.prompt_index for rollout in rollouts] == [0, 0, 1, 1] and sampler.difference["mean"] < 1e-3


def test_what_can_be_wrong_with_a_server_is_one_line(engine_server: http.server.HTTPServer, tiny_policy: Policy, tmp_path: Path) -> None:
    with pytest.raises(R1Error, match="does not answer.*recipes/vllm_server.sh"):
        vllm.Server("http://127.0.0.1:9", tmp_path)
    engine_server.missing = {"/collective_rpc"}
    sampler = vllm.VLLMSampler(tiny_policy, vllm.Server(engine_server.address, tmp_path))
    with pytest.raises(R1Error, match="status 404.*VLLM_SERVER_DEV_MODE=1") as error:
        sampler.sample(PROMPTS, 2, SETTINGS, seed=3)
    assert "\n" not in str(error.value)
    engine_server.missing, engine_server.lost = set(), 1
    with pytest.raises(R1Error, match="3 answers came back, 4 were asked for"):
        sampler.sample(PROMPTS, 2, SETTINGS, seed=3)


def test_without_vllm_one_line_says_what_to_install(tiny_policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(R1Error, match="needs vllm, which is not installed: pip install -r requirements-gpu.txt"), \
            vllm.sampler_of("vllm", tiny_policy):
        pass
    with pytest.raises(R1Error, match="rollouts='tpu': must be vllm, or the address"), vllm.sampler_of("tpu", tiny_policy):
        pass
