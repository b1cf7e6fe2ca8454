"""The same trainings by TRL's trainers: GRPO, supervised fine-tuning and pairwise reward models, for models and machines that outgrow ours.

    train(policy, problems=tasks.stream(["math"], seed=0), reward=rewards.mix(), recipe=GRPORecipe(steps=40), folder=folder, seed=0)

One configuration: a recipe of ours is translated, a step is a batch of rollouts here too, problems and rewards are the same objects, and
metrics.jsonl and rollouts.jsonl have the same rows. What TRL does in another way stands in `_grpo_settings`, `fine_tune`, `train_pairs`.

Answers are drawn by transformers' `generate`, by vLLM in the same process, or by a vLLM server (recipes/). Started by `accelerate launch`,
the same call trains on several GPUs and hosts; the first process writes. A killed run goes on from `folder`/trl, which holds what
transformers saves (torch reads it with `weights_only`). It draws other answers from there than it would have: only our own trainer goes on
to the very same numbers.
"""

import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from r1lib import text
from r1lib.errors import R1Error
from r1lib.machine import peak_memory_gb
from r1lib.optional import require
from r1lib.policy import Policy
from r1lib.rewards import Rewards
from r1lib.sampling import Rollout, vllm
from r1lib.tasks import Problem
from r1lib.training import grpo, reward_model, sft
from r1lib.training.grpo import GRPORecipe, ProblemSource
from r1lib.training.metrics import MetricsLog, Row, hacking_alarm, reading_metrics, reward_metrics
from r1lib.training.reward_model import Pair, RewardModel, RewardModelRecipe
from r1lib.training.run import EpochRecipe, History, cosine
from r1lib.training.sft import Example, SFTRecipe

Watchers = Sequence[Callable[[Row], None]]

_LOSSES = {"sequence": "grpo", "token": "dapo", "constant": "dr_grpo"}
_STATE = "trl"
# What TRL logs besides the metrics: of the one reward function that it sees, and of the whole training at its end.
_NOT_SHOWN = ("rewards/total/mean", "rewards/total/std", "epoch")


def train(policy: Policy, *, problems: ProblemSource, reward: Callable[[list[str], dict[str, list]], Rewards], recipe: GRPORecipe,
          folder: str | Path, seed: int, prompt: Callable[[str], str] = text.zero_prompt, evaluate: Callable[[int], Row] | None = None,
          watchers: Watchers = (), rollouts: str = "generate", save: Path | None = None) -> History:
    """Train the policy in place by TRL's GRPOTrainer, or go on where `folder` says that this very run stopped; as `grpo.train`.

    rollouts: "generate", "vllm" (in this process), or the address of a vLLM server, http://host:port.
    evaluate is called in the first process alone, with the weights of the moment; where weights are spread over processes (FSDP, ZeRO-3),
    give None. save: where the model goes at the end, put together by all processes; else the caller saves the policy.
    `R1Error`: a package is missing, or cannot train where the policy lies; the first batch carries no signal; the folder holds another run.
    """
    require("trl", "datasets", purpose="backend \"trl\"")
    if needs_a_gpu() and policy.model.device.type != "cuda":
        raise R1Error(f"backend \"trl\": TRL {importlib.metadata.version('trl')} trains by GRPO on a GPU alone, and the model is on the "
                      f"{policy.model.device.type.upper()}. Choose a profile of the GPU, or install what requirements.txt names.")
    if rollouts != "generate":
        require("vllm", purpose=f"rollouts={rollouts!r}")
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    run = _Run(recipe, folder, seed, watchers, evaluate, steps=recipe.steps, updates=recipe.updates_per_rollout)
    asked = _Asked(problems, recipe.prompts_per_step)
    places = range(recipe.steps * recipe.prompts_per_step)
    rows = Dataset.from_dict({"prompt": [prompt(asked[place].question) for place in places], "place": list(places)})
    longest = max(map(len, policy.encode(rows["prompt"][:recipe.prompts_per_step])))
    settings = _grpo_settings(recipe, longest, processes=int(os.environ.get("WORLD_SIZE", 1)))
    settings |= _rollout_settings(rollouts, longest + recipe.max_new_tokens) | _shared_settings(policy.model, recipe, run)

    def total(**given: Any) -> list[float]:
        return _judge(run, policy, asked, reward, prompt, **given)

    trainer = _with_rate(GRPOTrainer, lambda update: min(1.0, (update // run.updates + 1) / max(recipe.warmup_steps, 1)))(
        model=policy.model, args=_config(GRPOConfig, settings), train_dataset=rows, processing_class=policy.tokenizer,
        reward_funcs=[total], callbacks=[run])
    return _trained(trainer, run, policy.model, save)


def needs_a_gpu() -> bool:
    """Whether the GRPO of the TRL that is installed cannot learn on a CPU: 1.15 has kernels for a GPU, and nothing in their place."""
    return importlib.metadata.version("trl").startswith("1.15.")


def _grpo_settings(recipe: GRPORecipe, longest_prompt: int, *, processes: int = 1) -> dict[str, Any]:
    """A recipe as GRPOConfig has it. longest_prompt: in tokens, for how many answers fit into a micro-batch.

    What differs: with several updates a rollout, TRL's minibatches are random answers and ours random questions; micro-batches hold so many
    answers, ours so many tokens; weight decay spares biases and norms. The KL term is the paper's, without TRL's correction for its bias.
    """
    answers = recipe.prompts_per_step * recipe.samples_per_prompt
    if recipe.prompts_per_step % processes:
        raise R1Error(f"GRPO recipe: prompts_per_step={recipe.prompts_per_step}, but it must be a multiple of the {processes} processes, "
                      "so that the answers to a question stay together.")
    each = answers // recipe.updates_per_rollout // processes                       # of an update, in one process
    fit = max(recipe.tokens_per_micro_batch // (longest_prompt + recipe.max_new_tokens), 1)
    at_once = max(size for size in range(1, each + 1) if each % size == 0 and size <= fit)
    settings = dict(
        per_device_train_batch_size=at_once, gradient_accumulation_steps=each // at_once,
        steps_per_generation=answers // processes // at_once, max_steps=recipe.steps * recipe.updates_per_rollout,
        num_generations=recipe.samples_per_prompt, max_completion_length=recipe.max_new_tokens, temperature=recipe.temperature, top_k=0,
        loss_type=_LOSSES[recipe.aggregation], scale_rewards=recipe.advantage_scale, epsilon=recipe.epsilon_low,
        epsilon_high=recipe.epsilon_high, beta=recipe.beta, use_bias_correction_kl=False, num_iterations=1, shuffle_dataset=False)
    if recipe.beta:
        settings |= dict(sync_ref_model=True, ref_model_mixup_alpha=1.0,                          # the reference becomes the policy itself
                         ref_model_sync_steps=recipe.reference_refresh * recipe.updates_per_rollout)
    return settings


def _rollout_settings(rollouts: str, longest: int) -> dict[str, Any]:
    """Where answers come from. vLLM's are weighted for what its kernels round differently, with the bound of `grpo.truncated_weights`."""
    if rollouts == "generate":
        return {}
    settings = dict(use_vllm=True, vllm_importance_sampling_correction=True, vllm_importance_sampling_mode="token_truncate",
                    vllm_importance_sampling_clip_max=2.0)
    if rollouts == "vllm":
        return settings | dict(vllm_mode="colocate", vllm_gpu_memory_utilization=vllm.MEMORY, vllm_max_model_length=longest)
    if not rollouts.startswith(("http://", "https://")):
        raise R1Error(f"rollouts={rollouts!r}: must be generate, vllm, or the address of a vLLM server, http://host:port.")
    return settings | dict(vllm_mode="server", vllm_server_base_url=rollouts)


class _Asked:
    """The problem at each place of the run: place = step * prompts a step + which of them."""

    def __init__(self, problems: ProblemSource, each: int) -> None:
        self._batch, self._each = functools.lru_cache(maxsize=2)(lambda step: problems.batch(step, each)), each

    def __getitem__(self, place: int) -> Problem:
        return self._batch(place // self._each)[place % self._each]


def _judge(run: "_Run", policy: Policy, asked: _Asked, reward: Callable[[list[str], dict[str, list]], Rewards],
           prompt: Callable[[str], str], *, prompts: Sequence[str], completion_ids: Sequence[Sequence[int]], place: Sequence[int],
           log_metric: Callable[[str, float], None], **_: Any) -> list[float]:
    """What each answer is worth, in TRL's signature; some are kept for reading, and their parts are logged.

    Texts are decoded here, since TRL's lack the tokenizer's special tokens, among which a model may have its tags.
    """
    problems = [asked[number] for number in place]
    ends = policy.stop_ids
    rollouts = [Rollout(row // run.recipe.samples_per_prompt, [], list(ids), [], answer, bool(ids) and ids[-1] in ends)
                for row, (ids, answer) in enumerate(zip(completion_ids, policy.decode_all(completion_ids), strict=True))]
    earned = grpo.judge(reward, problems, rollouts, prompt)
    if run.leads:
        step = place[0] // run.recipe.prompts_per_step
        run.kept.append(*grpo.for_reading(problems, rollouts, earned, grpo.compare(earned, run.recipe), run.recipe, step=step,
                                          seed=run.seed))
    totals = torch.tensor(earned.total).view(-1, run.recipe.samples_per_prompt)
    parts = {name: value for name, value in reward_metrics(totals, earned.parts).items() if name.startswith("rewards/")}
    for name, value in (parts | reading_metrics(problems, rollouts)).items():
        log_metric(name, value)
    return earned.total


# ------------------------------------------------------------------------------------------------------------------------------------------
# The same rows in epochs

def fine_tune(policy: Policy, *, examples: Sequence[Example], recipe: SFTRecipe, folder: str | Path, seed: int,
              evaluate: Callable[[int], Row] | None = None, watchers: Watchers = ()) -> History:
    """Fine-tune the policy in place by TRL's SFTTrainer; as `sft.train`, but that TRL shuffles the rows in an order of its own."""
    require("trl", "datasets", purpose="backend \"trl\"")
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows, too_long = sft.encode(policy, examples, max_tokens=recipe.max_tokens)
    table = Dataset.from_dict({"input_ids": [[*row.prompt_ids, *row.ids] for row in rows],
                               "labels": [[-100] * len(row.prompt_ids) + row.ids for row in rows]})
    return _over_epochs(SFTTrainer, SFTConfig, policy.model, policy.tokenizer, table, recipe, folder, seed, evaluate, watchers,
                        longest=max(row.length for row in rows), constants={"examples/too_long": too_long}, packing=False)


def train_pairs(model: RewardModel, pairs: Sequence[Pair], *, recipe: RewardModelRecipe, folder: str | Path, seed: int,
                evaluate: Callable[[int], Row] | None = None, watchers: Watchers = ()) -> History:
    """Train a reward model in place on pairs by TRL's RewardTrainer, as `reward_model.train_pairs`. TRL trains on no single labels."""
    require("trl", "datasets", purpose="backend \"trl\"")
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    kept = reward_model.short_enough(reward_model.encode_pairs(model, pairs), recipe.max_tokens)
    table = Dataset.from_dict({side: [entry.rows[place] for entry in kept] for place, side in enumerate(("chosen_ids", "rejected_ids"))})
    return _over_epochs(RewardTrainer, RewardConfig, model.model, model.tokenizer, table, recipe, folder, seed, evaluate, watchers,
                        longest=2 * max(entry.longest for entry in kept), constants={"examples/too_long": len(pairs) - len(kept)})


def _over_epochs(trainer: type[Trainer], config: type, model: torch.nn.Module, tokenizer: Any, table: Any, recipe: EpochRecipe,
                 folder: str | Path, seed: int, evaluate: Callable[[int], Row] | None, watchers: Watchers, *, longest: int,
                 constants: Row, **more: Any) -> History:
    per_epoch = -(-len(table) // recipe.batch_size)
    run = _Run(recipe, folder, seed, watchers, evaluate, steps=recipe.epochs * per_epoch, constants=constants)
    fit = max(recipe.tokens_per_micro_batch // longest, 1)
    at_once = max(size for size in range(1, recipe.batch_size + 1) if recipe.batch_size % size == 0 and size <= fit)
    settings = dict(num_train_epochs=recipe.epochs, per_device_train_batch_size=at_once, max_length=None,
                    gradient_accumulation_steps=recipe.batch_size // at_once) | _shared_settings(model, recipe, run) | more

    def rate(update: int) -> float:
        return cosine(min(update, run.steps - 1), run.steps, warmup=recipe.warmup_steps, first=recipe.learning_rate,
                      last=recipe.final_learning_rate) / recipe.learning_rate

    return _trained(_with_rate(trainer, rate)(model=model, args=_config(config, settings), train_dataset=table, processing_class=tokenizer,
                                              callbacks=[run]), run, model)


# ------------------------------------------------------------------------------------------------------------------------------------------
# What all three share

def _shared_settings(model: torch.nn.Module, recipe: Any, run: "_Run") -> dict[str, Any]:
    on_gpu = model.device.type == "cuda"
    return dict(
        output_dir=str(run.state), seed=run.seed % 2**31, learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay,
        adam_beta1=recipe.betas[0], adam_beta2=recipe.betas[1], max_grad_norm=recipe.max_grad_norm, optim="adamw_torch_fused",
        bf16=on_gpu and recipe.precision == "bfloat16", fp16=False, use_cpu=not on_gpu, dataloader_pin_memory=on_gpu,
        gradient_checkpointing=False, logging_steps=run.updates, logging_first_step=False, report_to="none", disable_tqdm=True,
        save_strategy="steps", save_steps=recipe.checkpoint_every * run.updates, save_total_limit=2)


def _config(kind: type, settings: Mapping[str, Any]) -> Any:
    """TRL's configuration. A setting that this version of TRL does not have is left out, and said.

    One process has one GPU. Without `accelerate launch`, transformers would copy the model onto all that it sees (DataParallel), where
    neither our sampler nor TRL's GRPO finds it.
    """
    known = {field.name for field in dataclasses.fields(kind)}
    if strange := sorted(set(settings) - known):
        print(f"{kind.__name__} of this TRL has no {', '.join(strange)}: left out.", flush=True)
    made = kind(**{name: value for name, value in settings.items() if name in known})
    made._n_gpu = min(made.n_gpu, 1)
    return made


def _with_rate(kind: type[Trainer], rate: Callable[[int], float]) -> type[Trainer]:
    """The trainer with our learning rate: update -> what the recipe's rate is multiplied by."""

    class WithRate(kind):
        def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
            if self.lr_scheduler is None:
                self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, rate)
                self._created_lr_scheduler = True
            return self.lr_scheduler

    WithRate.__name__ = kind.__name__
    return WithRate


class _Run(TrainerCallback):
    """A run of TRL's in our form: rows of metrics, held-out measurements, the STOP file, and where it goes on. Steps are ours.

    updates: of the weights in a step. leads: whether this process is the one that writes.
    """

    def __init__(self, recipe: Any, folder: str | Path, seed: int, watchers: Watchers, evaluate: Callable[[int], Row] | None, *,
                 steps: int, updates: int = 1, constants: Row | None = None) -> None:
        self.recipe, self.seed, self.steps, self.updates, self.watchers, self.evaluate = recipe, seed, steps, updates, watchers, evaluate
        self.folder, self.constants = Path(folder), {"backend": "trl", **(constants or {})}
        self.state, self.leads = self.folder / _STATE, int(os.environ.get("RANK", 0)) == 0
        self.log, self.kept = MetricsLog(self.folder / "metrics.jsonl"), MetricsLog(self.folder / "rollouts.jsonl")
        self.held_out: Row = {}
        self.stopped = False
        self.rows: list[Row] = []
        self._open({"seed": seed, **json.loads(json.dumps(dataclasses.asdict(recipe)))})

    def _open(self, settings: Mapping[str, Any]) -> None:
        """Find where to go on; `R1Error` if the folder holds another run, one of ours among them."""
        file = self.state / "settings.json"
        if (self.folder / "state").exists() or (self.log.path.exists() and not file.exists()):
            raise R1Error(f"{self.folder}: holds a run of another backend. Use another folder, or move it away to start over.")
        if file.exists() and (before := json.loads(file.read_text(encoding="utf-8"))) != settings:
            name = next(key for key in {**settings, **before} if settings.get(key) != before.get(key))
            raise R1Error(f"{self.folder}: holds a run with {name}={before.get(name)}, this one asks for {settings.get(name)}. "
                          "Use another folder, or move it away to start over.")
        self.checkpoint = get_last_checkpoint(str(self.state)) if self.state.is_dir() else None
        if not self.leads:
            return
        self.state.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings, indent=1), encoding="utf-8")
        done = int(self.checkpoint.rsplit("-", 1)[1]) // self.updates if self.checkpoint else 0
        for log in (self.log, self.kept):
            log.truncate_after(done - 1)
        self.rows = self.log.rows()

    def write(self, row: Row) -> None:
        if self.leads:
            self.log.append(row)
            self.rows.append(row)
            for watcher in self.watchers:
                watcher(row)

    # What transformers calls.

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        step, inside = divmod(state.global_step, self.updates)
        if not inside and self.leads and self.evaluate and step % self.recipe.evaluate_every == 0:
            self.held_out = self.evaluate(step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any], **_: Any) -> None:
        if "train_runtime" in logs:                         # of the whole training, at its end
            return
        step = state.global_step // self.updates - 1
        if step == 0:
            self._require_signal(logs)
        for name in ("loss", "grad_norm"):
            if not math.isfinite(logs.get(name, 0.0)):
                raise R1Error(f"step {step}: {name} is {logs[name]}, and TRL has applied the update. Start again in another folder with a "
                              f"learning_rate below {self.recipe.learning_rate:g}, or with precision=float32.")
        measured = {name: value for name, value in logs.items() if name not in _NOT_SHOWN}
        if "num_input_tokens_seen" in measured:
            measured["num_tokens"] = measured.pop("num_input_tokens_seen")
        row = {"step": step, **measured, **self.constants, "memory/peak_gb": _peak_gb(), **self.held_out}
        self.held_out = {}
        if alarm := hacking_alarm([*self.rows, row]):
            row["alarm"] = alarm
        self.write(row)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if (self.folder / "STOP").exists() and state.global_step % self.updates == 0:
            control.should_save = control.should_training_stop = self.stopped = True

    def _require_signal(self, logs: Mapping[str, Any]) -> None:
        """As `grpo.require_signal`, from what TRL has measured of all processes."""
        if logs.get("completions/clipped_ratio") == 1:
            raise R1Error(f"step 0: none of the answers ended within max_new_tokens={self.recipe.max_new_tokens} (read some in "
                          f"{self.kept.path}). Raise max_new_tokens, or use a base and a tokenizer that know an end-of-text token.")
        if logs.get("frac_reward_zero_std") == 1:
            raise R1Error(f"step 0: no signal, as no question got two answers of different reward (answers are in {self.kept.path}). "
                          "Use easier levels, more samples_per_prompt, or another base.")


def _peak_gb() -> float:
    return torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else peak_memory_gb()


@contextlib.contextmanager
def _without_cudnn_attention() -> Iterator[None]:
    """Attention by other kernels than cuDNN's, whose gradient in bfloat16 is NaN for rows padded on the left.

    So it was with torch 2.11 on an H200: after two steps of TRL's trainer the weights were NaN, and the third could draw no answer.
    """
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


def _trained(trainer: Trainer, run: _Run, model: torch.nn.Module, save: Path | None = None) -> History:
    """Train; the model is left on its device, ready to sample, and without what TRL has put into its forward pass."""
    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    reason = None
    try:
        with _without_cudnn_attention():
            trainer.train(resume_from_checkpoint=run.checkpoint)
        if run.stopped:
            reason = "a STOP file"
            (run.folder / "STOP").unlink(missing_ok=True)
    except KeyboardInterrupt:
        reason = "an interrupt"
    model.__dict__.pop("forward", None)
    model.eval()
    if reason:
        done = trainer.state.global_step // run.updates
        return History(run.rows, interrupted=True, reason=f"stopped by {reason} after {done} of {run.steps} steps")
    if save:
        trainer.save_model(str(save))
        (save / "training_args.bin").unlink(missing_ok=True)                 # a pickle, which nobody needs
    if run.leads and run.evaluate and not (run.rows and run.rows[-1]["step"] == run.steps):
        run.write({"step": run.steps, **run.evaluate(run.steps)})
    return History(run.rows)
