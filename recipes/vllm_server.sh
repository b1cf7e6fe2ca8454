#!/usr/bin/env bash
# A vLLM server whose weights a training renews, on a GPU or a host of its own:
#     CUDA_VISIBLE_DEVICES=1 recipes/vllm_server.sh path/to/model
#     CUDA_VISIBLE_DEVICES=0 python recipes/grpo.py --base path/to/model --folder runs/served --rollouts http://localhost:8000
# Developer's mode lets whoever reaches the port load weights: keep it on a network that you trust. TRL sends weights through NCCL; our own
# sampler (`sampling/vllm.py`) by a folder that both see: name it in R1_WEIGHTS when the server is another host.
set -eu
export VLLM_SERVER_DEV_MODE=1 VLLM_ALLOW_INSECURE_SERIALIZATION=0 HF_HUB_OFFLINE="${HF_HUB_OFFLINE:-1}"
exec vllm serve "$1" --host "${HOST:-127.0.0.1}" --port "${PORT:-8000}" --dtype bfloat16 --logprobs-mode processed_logprobs \
    --weight-transfer-config '{"backend": "nccl"}' "${@:2}"
