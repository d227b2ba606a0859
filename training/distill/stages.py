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
from training.cli import add_flags, commit, from_flags
from training.distill.config import DistillConfig
from training.distill.examples import load, load_all
from training.distill.model import TrainableModel
from training.distill.objectives import held_out
from training.distill.processes import Processes
from training.distill.train import Run, fit

TEACHER_OBJECTIVES = ("teacher", "distill-both", "finetune-both")
"""Objectives that train full mode."""


def add_teacher_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``teacher``."""
    _add_arguments(parser)
    parser.set_defaults(objective="teacher")


def add_student_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``student``."""
    parser.add_argument("--teacher", type=Path, help="adapter from `teacher` (default: the published model teaches)")
    _add_arguments(parser)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="files from `prepare`")
    parser.add_argument(
        "--held-out", type=Path, help="file from `prepare`: the final divergence is also measured on it"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for adapter, log and checkpoint")
    parser.add_argument("--model", default="smollm2", help="base model: catalog name, hub name or folder")
    parser.add_argument("--device", help="such as cpu or cuda (default: a GPU if available)")
    parser.add_argument(
        "--start", type=Path, help="adapter whose change of block mode is the starting point (default: no change)"
    )
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in --out")
    add_flags(parser, DistillConfig)


def run_teacher(args: argparse.Namespace) -> dict[str, Any]:
    """Train a teacher, in full mode or in both modes. Its adapter has no student yet.

    With ``distill-both`` it stays near the published model, and learns to say what block mode can know as well.

    Raises
    ------
    ValueError
        If the objective does not train full mode, or the settings have sinks, which full mode does not use.
    """
    config = from_flags(args, DistillConfig)
    if config.objective not in TEACHER_OBJECTIVES or config.sinks != "none":
        raise ValueError(f"a teacher has one of the objectives {', '.join(TEACHER_OBJECTIVES)}, and no sinks.")
    in_blocks = config.objective != "teacher" and config.prefix_visible
    adapter = Adapter(str(args.model), base_id(args.model), {}, prefix_visible=in_blocks)
    return _run(args, config, adapter, lambda model: replace(adapter, teacher=model.changes()))


def run_student(args: argparse.Namespace) -> dict[str, Any]:
    """Train block mode on top of the frozen teacher.

    Raises
    ------
    ValueError
        If the objective is the teacher's, or the teacher has another base model.
    """
    config = from_flags(args, DistillConfig)
    adapter = load_adapter(args.teacher) if args.teacher else Adapter(str(args.model), base_id(args.model), {})
    if config.objective == "teacher":
        raise ValueError("the objective 'teacher' belongs to the command `teacher`; choose another one.")
    if adapter.base_id != base_id(args.model):
        raise ValueError(f"the teacher in {args.teacher} has the base model {adapter.base}; pass it as --model.")

    def finished(model: TrainableModel) -> Adapter:
        sinks = None if model.sinks is None else model.sinks.detach().cpu()
        return replace(
            adapter,
            student=model.changes(),
            sink_ids=model.sink_ids if sinks is None else (),
            sink_embeddings=sinks,
            prefix_visible=config.prefix_visible,
        )

    return _run(args, config, adapter, finished)


def _run(
    args: argparse.Namespace, config: DistillConfig, initial: Adapter, finished: Callable[[TrainableModel], Adapter]
) -> dict[str, Any]:
    processes, examples, since = Processes(args.device), load_all(args.data), time.perf_counter()
    base = load_frozen(args.model, initial, processes.device)
    model = TrainableModel(base, config, block_mode=config.objective != "teacher")
    start = load_adapter(args.start) if args.start else None
    if start:
        if start.base_id != initial.base_id:
            raise ValueError(f"the adapter in {args.start} has the base model {start.base}; pass it as --model.")
        model.lora.start_from(start.student or start.teacher)
    try:
        last = fit(Run(model, examples, config, processes, args.out), resume=args.resume)
    except torch.OutOfMemoryError as error:
        raise MemoryError(
            f"a step does not fit into the memory of {processes.device}: lower --pack-tokens ({config.pack_tokens}; "
            f"the longest example has {max(item.n_tokens for item in examples.items)}), or raise --checkpointing "
            f"({config.checkpointing:g}; 1 recomputes all layers)."
        ) from error
    record = {
        "settings": asdict(config),
        "data": examples.provenance,
        "start": start.about if start else None,
        "last": last,
        "held_out": held_out(model, load(args.held_out), config) if args.held_out else None,
        "seconds": time.perf_counter() - since,
        "device": torch.cuda.get_device_name() if processes.device.type == "cuda" else platform.processor() or "cpu",
        "n_processes": processes.n,
        "commit": commit(),
    }
    if processes.is_first:
        role = "teacher" if config.objective in TEACHER_OBJECTIVES else "student"
        save_adapter(replace(finished(model), about={**initial.about, role: record}), args.out)
        (args.out / "settings.json").write_text(json.dumps(record["settings"], indent=1) + "\n")
    measured = {"held_out": record["held_out"], "seconds": record["seconds"]}
    return {"adapter": str(args.out), "objective": config.objective, **last, **measured}


def load_frozen(name: str, adapter: Adapter, device: torch.device) -> AnswerModel:
    """Load the base model with the teacher's changes: bfloat16 on a GPU, float32 elsewhere."""
    folder = local_path(name)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    network: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation=gqa.NAME
    ).to(device)
    apply_changes(network, adapter.teacher)
    return AnswerModel(network, load_tokenizer(name), weights_sha256(folder), adapter.full_format)
