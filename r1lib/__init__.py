"""r1lib: DeepSeek-R1 from the paper to runs, small enough to read and fast enough to train on two cores.

An import goes down the floors, never up: text, paper and profiles; tasks and rewards; policy and sampling; training; stages, evaluation and
report.
Offline by default: no hub is asked and nothing is reported unless the user sets these variables before the import.
"""

import os

__version__ = "0.1.0"

os.environ.setdefault("HF_HUB_OFFLINE", "1")               # a missing folder must not become a minute of retries against a hub
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")   # the tokenizer's threads would deadlock a forked worker
