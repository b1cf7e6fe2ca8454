"""One measurement, in a process of its own, so that no engine finds another's memory or settings.

    python -m benchmarks.measure rollout ours --model base-3m --device cpu --prompts 16 --samples 8 --tokens 64

Prints one JSON object: seconds of each repetition, tokens, and the most memory held.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import workload
from r1lib.machine import peak_memory_gb
from r1lib.sampling import SamplingSettings
from r1lib.sampling.torch import TorchSampler
from r1lib.training import grpo

Result = dict[str, Any]


# ------------------------------------------------------------------------------------------------------------------------------------------
# Rollouts at temperature 1: answers of one length, or, with --natural, as the model ends them

def rollout_ours(job: argparse.Namespace) -> Result:
    policy = workload.load(job.model, job.device, job.dtype, endless=not job.natural)
    sampler, asked = TorchSampler(policy), workload.prompts(job.prompts)
    drawn: list[int] = []

    def run(repetition: int) -> None:
        rollouts = sampler.sample(asked, job.samples, SamplingSettings(job.tokens), seed=repetition)
        drawn.append(sum(len(rollout.ids) for rollout in rollouts))

    return _result(workload.timed(run, job.repetitions), drawn[1:])


def rollout_generate(job: argparse.Namespace) -> Result:
    """transformers: `generate`, left-padded, in batches of its best size."""
    policy = workload.load(job.model, job.device, job.dtype, endless=not job.natural)
    tokenizer, model = policy.tokenizer, policy.model
    tokenizer.padding_side = "left"
    asked = [prompt for prompt in workload.prompts(job.prompts) for _ in range(job.samples)]
    batch = tokenizer(asked, return_tensors="pt", padding=True, add_special_tokens=False).to(job.device)
    batch.pop("token_type_ids", None)
    drawn: list[int] = []

    def run(_: int) -> None:
        with torch.inference_mode():
            ids = model.generate(**batch, do_sample=True, temperature=1.0, top_k=0, max_new_tokens=job.tokens, pad_token_id=policy.pad_id)
        answers = ids[:, batch["input_ids"].shape[1]:]
        tokenizer.batch_decode(answers)
        drawn.append(int((answers != policy.pad_id).sum()) if job.natural else answers.numel())

    return _result(workload.timed(run, job.repetitions), drawn[1:])


def rollout_vllm(job: argparse.Namespace) -> Result:
    """vLLM, as its documentation advises for throughput: the whole batch at once, CUDA graphs, as many sequences as there are."""
    from vllm import LLM, SamplingParams

    longest = 256 + job.tokens
    if job.model not in workload.SHAPES:
        longest = 1024                                        # what the miniature was made for
    engine = LLM(str(workload.model_folder(job.model)), dtype="bfloat16", max_model_len=longest,
                 gpu_memory_utilization=0.85, max_num_seqs=job.prompts * job.samples, max_num_batched_tokens=max(16_384, longest),
                 enable_prefix_caching=True, disable_log_stats=True)
    settings = SamplingParams(n=job.samples, temperature=1.0, max_tokens=job.tokens, logprobs=0 if job.logprobs else None,
                              ignore_eos=not job.natural)
    asked = workload.prompts(job.prompts)
    drawn: list[int] = []

    def run(_: int) -> None:
        answers = engine.generate(asked, settings, use_tqdm=False)
        drawn.append(sum(len(answer.token_ids) for request in answers for answer in request.outputs))

    return _result(workload.timed(run, job.repetitions), drawn[1:])


# ------------------------------------------------------------------------------------------------------------------------------------------
# GRPO steps: sample, reward, learn from every answer; on-policy, no reference model

def step_ours(job: argparse.Namespace) -> Result:
    policy = workload.load(job.model, job.device, endless=not job.natural)
    recipe = grpo.GRPORecipe(prompts_per_step=job.prompts, samples_per_prompt=job.samples, max_new_tokens=job.tokens, learning_rate=1e-6,
                             tokens_per_micro_batch=job.micro_batch, precision=job.precision or str(job.dtype).removeprefix("torch."))
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-6, fused=True)
    sampler = TorchSampler(policy, dtype=job.dtype)
    asked, settings = workload.prompts(job.prompts), SamplingSettings(job.tokens)
    drawn: list[int] = []
    parts: list[tuple[float, float]] = []

    def run(repetition: int) -> None:
        started = time.perf_counter()
        rollouts = sampler.sample(asked, job.samples, settings, seed=repetition)
        sampled = time.perf_counter()
        workload.learn(policy, optimizer, rollouts, recipe, repetition)
        parts.append((sampled - started, time.perf_counter() - sampled))
        drawn.append(sum(len(rollout.ids) for rollout in rollouts))

    result = _result(workload.timed(run, job.repetitions), drawn[1:])
    sampling, learning = map(statistics.median, zip(*parts[1:], strict=True))
    return result | {"sample": sampling, "learn": learning}


def step_trl(job: argparse.Namespace, *, vllm: bool = False) -> Result:
    """TRL's GRPOTrainer with its defaults, but for what makes it comparable (lengths, learning rate) and faster (no checkpointing)."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    on_gpu, folder = job.device == "cuda", workload.model_folder(job.model)
    rows = Dataset.from_list([{"prompt": prompt} for prompt in workload.prompts(job.prompts)] * 40)
    batch = job.prompts * job.samples
    more = dict(use_vllm=True, vllm_mode="colocate", vllm_gpu_memory_utilization=0.3) if vllm else {}
    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(), max_steps=job.repetitions + 1, num_generations=job.samples, max_completion_length=job.tokens,
        per_device_train_batch_size=job.peer_batch or batch, gradient_accumulation_steps=batch // (job.peer_batch or batch),
        learning_rate=1e-6, bf16=on_gpu or job.peer_bf16, use_cpu=not on_gpu, gradient_checkpointing=False, report_to="none",
        save_strategy="no", logging_steps=1, disable_tqdm=True, shuffle_dataset=False, **more)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)
    if not job.natural and not vllm:
        tokenizer.eos_token_id, model.generation_config.eos_token_id = None, None
    trainer = GRPOTrainer(model=str(folder) if vllm else model, args=config, train_dataset=rows, processing_class=tokenizer,
                          reward_funcs=[workload.coin])
    trainer.train()
    logged = trainer.state.log_history
    lengths = [row["completions/mean_length"] * batch for row in logged if "completions/mean_length" in row]
    steps = [row["step_time"] for row in logged if "step_time" in row]          # TRL's own clock, over generating and learning
    return _result(steps[1:], [int(length) for length in lengths[1:]])


def step_trl_vllm(job: argparse.Namespace) -> Result:
    return step_trl(job, vllm=True)


# ------------------------------------------------------------------------------------------------------------------------------------------

def _result(seconds: list[float], tokens: list[int]) -> Result:
    memory = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else peak_memory_gb()
    return {"seconds": [round(value, 5) for value in seconds], "tokens": tokens, "peak_gb": round(memory, 2)}


MEASUREMENTS = {("rollout", "ours"): rollout_ours, ("rollout", "generate"): rollout_generate, ("rollout", "vllm"): rollout_vllm,
                ("step", "ours"): step_ours, ("step", "trl"): step_trl, ("step", "trl+vllm"): step_trl_vllm}


def main() -> None:
    parser = argparse.ArgumentParser(description="One measurement.")
    parser.add_argument("what", choices=sorted({what for what, _ in MEASUREMENTS}))
    parser.add_argument("engine", choices=sorted({engine for _, engine in MEASUREMENTS}))
    parser.add_argument("--model", default="base-3m")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", type=lambda name: getattr(torch, name))
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="of the products that ours learns in, unless as --dtype")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--natural", action="store_true", help="answers end where the model ends them")
    parser.add_argument("--logprobs", action="store_true", help="vLLM returns log-probabilities, as ours always does")
    parser.add_argument("--micro-batch", type=int, default=4096, help="tokens that are learnt from at once")
    parser.add_argument("--peer-batch", type=int, default=0, help="completions that TRL learns from at once; 0: all")
    parser.add_argument("--peer-bf16", action="store_true", help="TRL learns in bfloat16 on a CPU, too")
    parser.add_argument("--repetitions", type=int, default=5)
    job = parser.parse_args()
    print("RESULT " + json.dumps(MEASUREMENTS[job.what, job.engine](job)), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    assert Path.cwd().joinpath("benchmarks").is_dir(), "run this from the repository's root"
    main()
