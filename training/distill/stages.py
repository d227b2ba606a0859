"""``python -m training.distill teacher`` and ``student``: train one stage and write its adapter."""

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from blockrag.attention import gqa
from blockrag.models.adapter import Adapter, apply_changes, load_adapter, save_adapter
from blockrag.models.answer_model import AnswerModel
from blockrag.models.load import load_tokenizer
from blockrag.models.store import base_id, local_path, weights_sha256
from training.commit import commit
from training.distill.config import DistillConfig
from training.distill.examples import load, load_all
from training.distill.learner import Learner
from training.distill.objectives import held_out
from training.distill.processes import Processes
from training.distill.train import Run, fit
from training.settings import add_flags, from_flags

TEACHERS = ("teacher", "finetune-both")
"""Objectives that leave a reader in full mode."""


def add_teacher_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the teacher's stage."""
    _add_arguments(parser)
    parser.set_defaults(objective="teacher")


def add_student_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of the student's stage."""
    parser.add_argument("--teacher", type=Path, help="adapter of the teacher's stage (default: the model as published)")
    _add_arguments(parser)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="files of `prepare`")
    parser.add_argument("--held-out", type=Path, help="file of `prepare`: the last divergence is measured on it too")
    parser.add_argument("--out", type=Path, required=True, help="folder for adapter, log and checkpoint")
    parser.add_argument("--model", default="smollm2", help="base: catalog name, hub name or folder")
    parser.add_argument("--device", help="such as cpu or cuda (default: a GPU where there is one)")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    add_flags(parser, DistillConfig)


def run_teacher(args: argparse.Namespace) -> dict[str, Any]:
    """Train a reader, in full mode or in both: its adapter has no student yet.

    Raises
    ------
    ValueError
        If the objective needs a teacher or has no full mode, or there are sinks, which full mode does not know.
    """
    config = from_flags(args, DistillConfig)
    if config.objective not in TEACHERS or config.sinks != "none":
        raise ValueError(f"a teacher has one of the objectives {', '.join(TEACHERS)}, and no sinks.")
    in_blocks = config.objective != "teacher" and config.prefix_visible
    adapter = Adapter(str(args.model), base_id(args.model), {}, prefix_visible=in_blocks)
    return _run(args, config, adapter, lambda learner: replace(adapter, teacher=learner.changes()))


def run_student(args: argparse.Namespace) -> dict[str, Any]:
    """Train block mode on top of the teacher, which stays as it is."""
    config = from_flags(args, DistillConfig)
    adapter = load_adapter(args.teacher) if args.teacher else Adapter(str(args.model), base_id(args.model), {})
    if config.objective == "teacher":
        raise ValueError("the objective 'teacher' is the stage `teacher`; choose another for the student.")
    if adapter.base_id != base_id(args.model):
        raise ValueError(f"the teacher in {args.teacher} was made of {adapter.base}; give that model as --model.")

    def finished(learner: Learner) -> Adapter:
        learned = None if learner.sinks is None else learner.sinks.detach().cpu()
        return replace(
            adapter,
            student=learner.changes(),
            sink_ids=learner.sink_ids if learned is None else (),
            sink_embeddings=learned,
            prefix_visible=config.prefix_visible,
        )

    return _run(args, config, adapter, finished)


def _run(
    args: argparse.Namespace, config: DistillConfig, begun: Adapter, finished: Callable[[Learner], Adapter]
) -> dict[str, Any]:
    processes, examples, since = Processes(args.device), load_all(args.data), time.perf_counter()
    model = load_frozen(args.model, begun, processes.device)
    learner = Learner(model, config, block_mode=config.objective != "teacher")
    last = fit(Run(learner, examples, config, processes, args.out), resume=args.resume)
    made = {
        "settings": asdict(config),
        "data": examples.made_of,
        "last": last,
        "held_out": held_out(learner, load(args.held_out), config) if args.held_out else None,
        "seconds": time.perf_counter() - since,
        "device": torch.cuda.get_device_name() if processes.device.type == "cuda" else platform.processor() or "cpu",
        "n_processes": processes.n,
        "commit": commit(),
    }
    if processes.is_first:
        role = "teacher" if config.objective in TEACHERS else "student"
        save_adapter(replace(finished(learner), about={**begun.about, role: made}), args.out)
        (args.out / "settings.json").write_text(json.dumps(made["settings"], indent=1) + "\n")
    told = {"held_out": made["held_out"], "seconds": made["seconds"]}
    return {"adapter": str(args.out), "objective": config.objective, **last, **told}


def load_frozen(name: str, adapter: Adapter, device: torch.device) -> AnswerModel:
    """The base with the teacher's changes, in 16 bits on a GPU."""
    folder = local_path(name)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    network: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation=gqa.NAME
    ).to(device)
    apply_changes(network, adapter.teacher)
    return AnswerModel(network, load_tokenizer(name), weights_sha256(folder), adapter.full_format)
