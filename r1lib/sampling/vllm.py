"""Answers from vLLM, for models too large for our sampler or on hosts of their own: in this process, or from a server.

    with sampler_of("vllm", policy) as sampler:                   # shares the GPU with the training ("colocate")
        grpo.train(policy, sampler=sampler, ...)
    with sampler_of("http://localhost:8000", policy) as sampler:  # a server, recipes/vllm_server.sh, that reads the same disk
        ...

vLLM has a copy of the weights, in other kernels. So before every call the policy's weights of the moment are handed over, and after it the
policy says how probable it finds what was drawn: `Rollout.policy_logprobs`, from which training weights each token (truncated importance
sampling, `grpo.truncated_weights`). A difference too large for rounding means that the weights have not arrived, and is an error.
"""

import contextlib
import json
import os
import statistics
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from r1lib import seeds
from r1lib.errors import R1Error
from r1lib.optional import require
from r1lib.policy import Policy, log_probabilities
from r1lib.sampling import Rollout, Sampler, SamplingSettings

# Nats a token, on average. In bfloat16 two engines differ by about 0.01; weights of another step or another model by far more.
LARGEST_DIFFERENCE = 0.2
_TOKENS_AT_ONCE = 16_384                # that the policy reads over at a time
MEMORY = 0.3                            # of the GPU, where the training has the rest
_PATIENCE = 1800                        # seconds for one answer of a server


class Engine(Protocol):
    """What draws: given weights, then prompts in tokens."""

    def take(self, policy: Policy) -> None:
        """The policy's weights of this moment become the engine's."""
        ...

    def draw(self, prompt_ids: Sequence[Sequence[int]], samples: int, settings: SamplingSettings, stops: Sequence[int], seed: int,
             ) -> list[tuple[list[int], list[float]]]:
        """Tokens and their log-probabilities for each answer, prompt by prompt."""
        ...


@contextlib.contextmanager
def sampler_of(rollouts: str, policy: Policy) -> Iterator[Sampler]:
    """A sampler by the name that a profile gives: "vllm" for this process, or the address of a server. `R1Error` for any other."""
    if rollouts == "vllm":
        yield VLLMSampler(policy, Colocated(policy))
    elif rollouts.startswith(("http://", "https://")):
        with tempfile.TemporaryDirectory(prefix="r1lib-weights-") as shared:
            yield VLLMSampler(policy, Server(rollouts, os.environ.get("R1_WEIGHTS", shared)))
    else:
        raise R1Error(f"rollouts={rollouts!r}: must be vllm, or the address of a vLLM server, http://host:port.")


class VLLMSampler:
    """Samples by an engine that is given `policy`'s weights before each call.

    difference: of the last call, in nats a token: mean and largest distance of the engine's log-probabilities from the policy's own.
    """

    def __init__(self, policy: Policy, engine: Engine) -> None:
        self.policy, self.engine = policy, engine
        self.difference: dict[str, float] = {}

    def sample(self, prompts: Sequence[str], samples: int, settings: SamplingSettings, *, seed: int, first: int = 0) -> list[Rollout]:
        """`samples` answers to each prompt, prompt by prompt: sample j of prompt i is at [i * samples + j].

        first: parts that begin at other places draw other numbers, but not those that they would have drawn in one call.
        `R1Error` when the policy finds the drawn tokens far less or more probable than the engine did.
        """
        prompt_ids, stops = self.policy.encode(prompts), sorted(self.policy.stop_ids)
        for index, ids in enumerate(prompt_ids):
            if not ids:
                raise R1Error(f"prompt {index} is empty: there is nothing to answer.")
        self.engine.take(self.policy)
        drawn = self.engine.draw(prompt_ids, samples, settings, stops, seeds.derive("vllm", seed, first) if first else seed)
        texts = self.policy.decode_all([ids for ids, _ in drawn])
        rollouts = [Rollout(row // samples, prompt_ids[row // samples], ids, logprobs, text, bool(ids) and ids[-1] in stops)
                    for row, ((ids, logprobs), text) in enumerate(zip(drawn, texts, strict=True))]
        if settings.top_p == 1 and settings.top_k == 0:      # else the engine's distribution is another one on purpose
            self._compare(rollouts, settings.temperature)
        return rollouts

    @torch.no_grad()
    def _compare(self, rollouts: Sequence[Rollout], temperature: float) -> None:
        """Give each rollout the policy's own log-probabilities, and look at how far the engine's are from them."""
        device = self.policy.model.device.type
        by_length = sorted(range(len(rollouts)), key=lambda row: len(rollouts[row].prompt_ids) + len(rollouts[row].ids))
        longest = len(rollouts[by_length[-1]].prompt_ids) + len(rollouts[by_length[-1]].ids)
        at_once = max(_TOKENS_AT_ONCE // longest, 1)
        for start in range(0, len(by_length), at_once):
            some = [rollouts[row] for row in by_length[start:start + at_once]]
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                found, _, _ = log_probabilities(self.policy.model, [rollout.prompt_ids for rollout in some],
                                                [rollout.ids for rollout in some], temperature=temperature)
            for rollout, row in zip(some, found.tolist(), strict=True):
                rollout.policy_logprobs = row[:len(rollout.ids)]
        far = [abs(own - theirs) for rollout in rollouts for own, theirs in zip(rollout.policy_logprobs, rollout.logprobs, strict=True)]
        self.difference = {"mean": statistics.fmean(far), "max": max(far)}
        if not self.difference["mean"] <= LARGEST_DIFFERENCE:                    # so that NaN is refused, too
            raise R1Error(f"vLLM finds its answers {self.difference['mean']:.2f} nats a token more or less probable than the policy does: "
                          "its weights are not the policy's. Restart it, on this model's folder, with --logprobs-mode processed_logprobs.")


# ------------------------------------------------------------------------------------------------------------------------------------------
# In this process

class Colocated:
    """vLLM beside the training on the same GPU. Weights go over within the GPU."""

    def __init__(self, policy: Policy, memory: float = MEMORY) -> None:
        require("vllm", purpose="rollouts \"vllm\"")
        if policy.folder is None:
            raise R1Error("vLLM reads a model from its folder: save the policy and load it from there.")
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")             # one process, or weights could not be handed over
        from vllm import LLM

        self.engine = LLM(str(policy.folder), dtype="bfloat16", gpu_memory_utilization=memory, logprobs_mode="processed_logprobs",
                          max_model_len=policy.model.config.max_position_embeddings, disable_log_stats=True)

    def take(self, policy: Policy) -> None:
        self.engine.apply_model(lambda model: model.load_weights(_weights(policy)) and None)
        self.engine.reset_prefix_cache()                     # it holds what the old weights made of the prompts

    def draw(self, prompt_ids: Sequence[Sequence[int]], samples: int, settings: SamplingSettings, stops: Sequence[int], seed: int,
             ) -> list[tuple[list[int], list[float]]]:
        from vllm import SamplingParams

        asking = [SamplingParams(n=samples, max_tokens=settings.max_new_tokens, temperature=settings.temperature, top_p=settings.top_p,
                                 top_k=settings.top_k or -1, stop_token_ids=list(stops), logprobs=0, seed=_seed(seed, place),
                                 detokenize=False) for place in range(len(prompt_ids))]
        answered = self.engine.generate([{"prompt_token_ids": list(ids)} for ids in prompt_ids], asking, use_tqdm=False)
        return [(list(answer.token_ids), [place[token].logprob for place, token in zip(answer.logprobs, answer.token_ids, strict=True)])
                for request in answered for answer in request.outputs]


def _weights(policy: Policy) -> Iterator[tuple[str, torch.Tensor]]:
    """Every weight under its name in the model's files; one that is tied to another is not there twice."""
    for name, parameter in policy.model.named_parameters():
        yield name, parameter.detach()


def _seed(seed: int, place: int) -> int:
    return seeds.derive("vllm", seed, place) % 2**31


# ------------------------------------------------------------------------------------------------------------------------------------------
# A server

class Server:
    """`vllm serve`, here or on another host, in its developer's mode (recipes/vllm_server.sh), in which it can be told to read weights.

    address: http://host:port. shared: a folder that this process and the server both see; weights go over by it.
    """

    def __init__(self, address: str, shared: str | Path) -> None:
        self.address, self.shared = address.rstrip("/"), Path(shared)
        models = self._ask("GET", "/v1/models")
        try:
            self.model = models["data"][0]["id"]
        except (KeyError, IndexError, TypeError):
            raise R1Error(f"{self.address}: is no vLLM server, it names no model.") from None

    def take(self, policy: Policy) -> None:
        folder = self.shared / "policy"
        policy.save(folder)
        self._ask("POST", "/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(folder.resolve())}})
        self._ask("POST", "/reset_prefix_cache")

    def draw(self, prompt_ids: Sequence[Sequence[int]], samples: int, settings: SamplingSettings, stops: Sequence[int], seed: int,
             ) -> list[tuple[list[int], list[float]]]:
        body = {"model": self.model, "prompt": [list(ids) for ids in prompt_ids], "n": samples, "max_tokens": settings.max_new_tokens,
                "temperature": settings.temperature, "top_p": settings.top_p, "top_k": settings.top_k or -1, "seed": _seed(seed, 0),
                "stop_token_ids": list(stops), "logprobs": 0, "return_token_ids": True}
        answered = self._ask("POST", "/v1/completions", body)
        try:
            choices = sorted(answered["choices"], key=lambda choice: choice["index"])
            drawn = [(list(choice["token_ids"]), list(choice["logprobs"]["token_logprobs"])) for choice in choices]
        except (KeyError, TypeError):
            raise R1Error(f"{self.address}: its answer has no tokens and log-probabilities; use vLLM 0.24 or newer.") from None
        if len(drawn) != samples * len(prompt_ids):
            raise R1Error(f"{self.address}: {len(drawn)} answers came back, {samples * len(prompt_ids)} were asked for.")
        return drawn

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        """One request; what it returns as JSON, None if that is nothing."""
        data = json.dumps(body).encode() if body is not None else b"" if method == "POST" else None
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE) as response:
                said = response.read()
        except urllib.error.HTTPError as error:
            hint = " Start it with VLLM_SERVER_DEV_MODE=1 (recipes/vllm_server.sh)." if error.code == 404 else ""
            raise R1Error(f"{self.address}{path}: status {error.code}, {error.read(200).decode(errors='replace')!r}.{hint}") from None
        except OSError as error:
            raise R1Error(f"{self.address}{path}: does not answer ({error}). Start a server by recipes/vllm_server.sh.") from None
        return json.loads(said) if said else None
