"""python -m r1lib: everything that can be done without a notebook. A user's mistake is one line on stderr and exit code 2."""

import argparse
import json
import os
import sys
from pathlib import Path

from r1lib import paths, tasks
from r1lib.errors import R1Error


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m r1lib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    run = commands.add_parser("run", help="train a stage, or go on with it, or load it",
                              epilog="Several GPUs of a host share the work of GRPO: torchrun --nproc-per-node 2 -m r1lib run ...")
    run.add_argument("--to", default="zero", help="the stage (default: %(default)s)")
    run.add_argument("--profile", default="cpu", help="smoke, cpu, gpu (a model of the hub), gpu+smollm2 or gpu+miniature; "
                     "behind it, who trains and draws: gpu+trl+vllm (default: %(default)s)")
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--base", help="a base model of data/, a folder, or a name of the hub, instead of the profile's")
    run.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE",
                     help="settings of the stage and its recipe, such as steps=100 combine=gated domains=math,logic; "
                          "of a stage that it needs: zero.steps=40")
    run.add_argument("--folder", type=Path, help="instead of runs/<profile>/<stage>")
    run.set_defaults(do=_run)

    evaluate = commands.add_parser("evaluate", help="measure a model on a fixed set or a file of problems")
    evaluate.add_argument("--model", required=True, help="a model folder, or the name of a base model of data/")
    evaluate.add_argument("--set", default="math", dest="set_name",
                          help=f"{', '.join(tasks.EVALUATION_SETS)}, or a JSONL file (default: %(default)s)")
    evaluate.add_argument("--samples", type=int, default=16, help="answers to each problem (default: %(default)s)")
    evaluate.add_argument("--temperature", type=float, default=1.0)
    evaluate.add_argument("--top-p", type=float, default=1.0)
    evaluate.add_argument("--max-new-tokens", type=int, default=256)
    evaluate.add_argument("--seed", type=int, default=0)
    evaluate.add_argument("--device", default="cpu")
    evaluate.add_argument("--json", type=Path, help="where the summary and every completion go; .parquet makes it a table")
    evaluate.set_defaults(do=_evaluate)

    report = commands.add_parser("report", help="execute the notebooks and write runs/<profile>/report/")
    report.add_argument("--profile", default="cpu")
    report.add_argument("--seed", type=int)
    report.add_argument("--only", nargs="*", default=[], help="numbers or names of notebooks")
    report.add_argument("--store", action="store_true", help="keep the outputs in notebooks/ as well")
    report.set_defaults(do=_report)

    claims = commands.add_parser("ledger", help="judge the paper's claims by a finished run: runs/<profile>/ledger.json")
    claims.add_argument("--profile", default="cpu")
    claims.add_argument("--seeds", type=int, nargs="+", help="several runs of `results` instead of the notebooks' own")
    claims.add_argument("--claims", nargs="+", default=[], metavar="NAME", help="show these in full: rule, evidence, source")
    claims.set_defaults(do=_ledger)

    results = commands.add_parser("results", help="train and measure with several seeds and write results/")
    results.add_argument("--only", nargs="+", choices=["r1_zero", "r1", "findings", "ledger"], default=["r1_zero", "r1", "findings"],
                         help="which of them; findings ends with the ledger, ledger judges the findings that are there (default: all)")
    results.add_argument("--profile", default="cpu")
    results.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    results.add_argument("--experiments", nargs="*", metavar="NAME", help="of findings: which to measure (default: all)")
    results.set_defaults(do=_results)

    pretrain = commands.add_parser("pretrain", help="make the base models anew, on a GPU")
    pretrain.add_argument("--sizes", nargs="+", default=["0.4m", "1m", "3m"])
    pretrain.add_argument("--out", type=Path, default=paths.data())
    pretrain.add_argument("--seed", type=int, default=0)
    pretrain.add_argument("--tokens", type=int, help="how many tokens each size reads (default: 400 million)")
    pretrain.add_argument("--workers", type=int, help="processes that write the corpus (default: all cores but two)")
    pretrain.add_argument("--device", default="cuda")
    pretrain.set_defaults(do=_pretrain)

    prepare = commands.add_parser("prepare", help="make SmolLM2-135M a base that stages can start from, on a GPU, with no hub")
    prepare.add_argument("--documents", type=int, help="how many documents of the small world it reads (default: 60,000)")
    prepare.add_argument("--seed", type=int, default=0)
    prepare.add_argument("--device", default="cuda")
    prepare.set_defaults(do=_prepare)

    doctor = commands.add_parser("doctor", help="look at packages, GPU and memory before a run")
    doctor.add_argument("--profile", default="cpu", help="smoke, cpu, gpu, gpu+smollm2 or gpu+miniature, with +trl, +unsloth, "
                        "+qlora, +vllm (default: %(default)s)")
    doctor.add_argument("--base", help="a base model of data/, a folder, or a hub name, instead of the profile's")
    doctor.add_argument("--stage", default="zero", help="a stage that learns by GRPO (default: %(default)s)")
    doctor.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the stage and its recipe")
    doctor.set_defaults(do=_doctor)

    world = commands.add_parser("evaluation-sets", help="write the fixed evaluation sets anew into data/evaluation/")
    world.set_defaults(do=_evaluation_sets)

    options = parser.parse_args(arguments)
    try:
        if "TORCHELASTIC_RUN_ID" in os.environ and options.do is not _run:
            raise R1Error(f"torchrun shares the work of `run` only: start `{options.command}` without it.")
        return options.do(options)
    except R1Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped: what is finished stays, and a trained stage is not trained again.", file=sys.stderr)
        return 130                                          # as a shell says it of a command that ^C ended
    except BrokenPipeError:                                 # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


# Each command imports what it needs, so that a mistyped one does not wait for torch.

def _settings(pairs: list[str]) -> dict[str, object]:
    """name=value pairs, as numbers, true and false where they are such, and as lists where there are commas."""
    settings: dict[str, object] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise R1Error(f"--set {pair!r}: write NAME=VALUE, for example steps=100.")
        read = [_read(part) for part in value.split(",")]
        settings[name] = read if "," in value else read[0]
    return settings


def _read(value: str) -> bool | int | float | str:
    if value in ("true", "false"):
        return value == "true"
    for read in (int, float):
        try:
            return read(value)
        except ValueError:
            continue
    return value


def _run(options: argparse.Namespace) -> int:
    from r1lib import profiles, stages
    from r1lib.training import parallel
    from r1lib.training.metrics import Progress

    with parallel.joined(profiles.get(options.profile).device) as processes:
        done = stages.run(options.to, profile=options.profile, seed=options.seed, base=options.base, folder=options.folder,
                          settings=_settings(options.set), watchers=[Progress()], processes=processes)
        print(f"{done.name}: {'finished' if done.finished else 'stopped; the same command goes on'}: {done.folder}")
    return 0 if done.finished else 130


def _evaluate(options: argparse.Namespace) -> int:
    from r1lib import evaluation, stages
    from r1lib.policy import Policy
    from r1lib.sampling import SamplingSettings
    from r1lib.sampling.torch import TorchSampler

    known = options.set_name in tasks.EVALUATION_SETS
    if not known and not options.set_name.endswith(".jsonl"):
        raise R1Error(f"evaluation set {options.set_name!r} is not known: choose one of {', '.join(tasks.EVALUATION_SETS)}, "
                      f"or name a .jsonl file.")
    if options.json and options.json.is_dir():              # said now, not after minutes of sampling
        raise R1Error(f"--json {options.json}: is a folder, name a file in it.")
    problems = tasks.evaluation_set(options.set_name) if known else tasks.read_problems(Path(options.set_name))
    evaluation.require_distinct(problems)
    model = Path(options.model)
    policy = Policy.load(model if model.exists() or "/" in options.model else stages.base_folder(options.model), device=options.device)
    evaluation.require_end(policy, options.model)
    settings = SamplingSettings(max_new_tokens=options.max_new_tokens, temperature=options.temperature, top_p=options.top_p)
    made = evaluation.evaluate(TorchSampler(policy), problems, samples=options.samples, settings=settings, seed=options.seed,
                               progress=lambda done, of: print(f"  {done} of {of} problems", flush=True))
    made.about.update(model=options.model, set=options.set_name)
    print(evaluation.table(made.summary()))
    if options.json:
        made.save(options.json)
    return 0


def _report(options: argparse.Namespace) -> int:
    from r1lib import stages
    from r1lib.report.notebooks import run_notebooks

    stages.base_of(options.profile)                         # what is missing is said now, and a model of the hub is fetched
    failed = run_notebooks(options.profile, only=options.only, seed=options.seed, store=options.store)
    if not options.only:                                    # once more, when the last notebook has found what it found
        from r1lib import ledger, lineage
        from r1lib.report import ledger as shown

        records = ledger.keep(options.profile)
        print(f"{lineage.shown(ledger.file(options.profile))}: {shown.counted(records)}", flush=True)
    return min(failed, 1)


def _ledger(options: argparse.Namespace) -> int:
    from r1lib import ledger, lineage
    from r1lib.report import ledger as shown

    records = ledger.of_runs(options.profile, options.seeds)
    asked = ledger.chosen(records, options.claims)
    ledger.write(records, ledger.file(options.profile))
    print("\n\n".join(map(shown.explained, asked)) if asked else shown.table(records))
    if not asked:
        names = ", ".join(record["name"] for record in records)
        print(f"{lineage.shown(ledger.file(options.profile))} has all of it; --claims NAME shows one in full: {names}")
    return 0


def _results(options: argparse.Namespace) -> int:
    from r1lib.report import results

    experiments = list(results.EXPERIMENTS) if options.experiments is None else options.experiments
    if unknown := [name for name in experiments if name not in results.EXPERIMENTS]:
        raise R1Error(f"experiment {unknown[0]!r} is not known: choose from {', '.join(results.EXPERIMENTS)}.")
    make = {"r1_zero": lambda: results.r1_zero(options.profile, options.seeds), "r1": lambda: results.r1(options.profile, options.seeds),
            "findings": lambda: results.findings(options.profile, options.seeds, experiments), "ledger": results.claims}
    for which in options.only:
        make[which]()
    return 0


def _pretrain(options: argparse.Namespace) -> int:
    from r1lib.training import pretrain

    command = "python -m r1lib " + " ".join(sys.argv[1:])
    tokens = pretrain.TOKENS if options.tokens is None else options.tokens
    pretrain.pretrain(options.sizes, options.out, seed=options.seed, tokens=tokens, workers=options.workers, device=options.device,
                      command=command)
    return 0


def _prepare(options: argparse.Namespace) -> int:
    from r1lib import smollm2
    from r1lib.training.metrics import Progress

    folder = smollm2.prepare(seed=options.seed, device=options.device, watchers=[Progress(30)],
                             documents=smollm2.DOCUMENTS if options.documents is None else options.documents)
    about = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    print(f"{folder}: held-out math {about['held_out_math']['before']:.1%} before, {about['held_out_math']['after']:.1%} after; "
          f"{about['tokens']:,} tokens in {about['seconds']:.0f} s")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from r1lib import doctor

    report = doctor.examine(options.profile, base=options.base, stage=options.stage, settings=_settings(options.set))
    print(report)
    return 1 if report.faults else 0


def _evaluation_sets(_: argparse.Namespace) -> int:
    for path in tasks.write_evaluation_sets():
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
