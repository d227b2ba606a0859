"""Train, choose the scale on dev, save: ``python -m training.segmenter --train FILES --dev FILES --out FOLDER``."""

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import IO

import torch
from tokenizers import Tokenizer
from tqdm import tqdm
from transformers import AutoModel

from blockrag.models import local_path
from blockrag.segment.neural.network import NetworkConfig, SegmenterNetwork
from blockrag.segment.neural.segmenter import fast_dtype
from blockrag.segment.neural.weights import save
from training.segmenter.batches import load_batches, logits, loss
from training.segmenter.config import SegmenterConfig, add_flags, from_flags
from training.segmenter.encoded import read_examples
from training.segmenter.examples import Example
from training.segmenter.scoring import fit_scale, macro_f1, predict

_BERT_FIELDS = (
    "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size max_position_embeddings "
    "type_vocab_size layer_norm_eps"
).split()


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the flags and train."""
    parser = argparse.ArgumentParser(prog="python -m training.segmenter", description=__doc__)
    parser.add_argument("--train", nargs="+", required=True, help="files of the data set")
    parser.add_argument("--dev", nargs="+", required=True, help="files whose dev split chooses the scale")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, configuration and log")
    parser.add_argument("--encoder", default="minilm", help="pretrained encoder to start from (default: minilm)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dev-texts", type=int, default=0, help="dev texts per source; 0 for all")
    parser.add_argument("--encoded", type=Path, help="folder that caches encoded texts for later runs")
    parser.add_argument(
        "--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="processes that prepare batches"
    )
    add_flags(parser)
    args = parser.parse_args(argv)
    config = from_flags(args)
    torch.manual_seed(config.seed)
    tokenizer = _tokenizer(local_path(args.encoder))
    train = _wanted(read_examples(args.train, "train", tokenizer, args.workers, args.encoded), config)
    dev = _first_of_each(read_examples(args.dev, "dev", tokenizer, args.workers, args.encoded), args.dev_texts)
    network = begin(local_path(args.encoder), config).to(args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / "log.jsonl").open("w") as log:
        fit(network, train, config, log, args.workers)
        report = finish(network, dev, tokenizer, args.out)
        log.write(json.dumps(report) + "\n")
    (args.out / "training.json").write_text(json.dumps(asdict(config) | report, indent=1) + "\n")
    print(json.dumps(report))


def begin(encoder: Path, config: SegmenterConfig) -> SegmenterNetwork:
    """The untrained network with the pretrained encoder in the folder `encoder`."""
    bert = AutoModel.from_pretrained(encoder, dtype=torch.float32)
    sizes = {name: getattr(bert.config, name) for name in _BERT_FIELDS}
    network = SegmenterNetwork(
        NetworkConfig(sizes, config.layers, config.window, config.overlap, one_sided=config.one_sided)
    )
    weights = {name: tensor for name, tensor in bert.state_dict().items() if not name.startswith("pooler.")}
    network.bert.load_state_dict(weights)
    for module in network.bert.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = config.dropout
    return network


def fit(
    network: SegmenterNetwork, train: Sequence[Example], config: SegmenterConfig, log: IO[str], n_workers: int
) -> None:
    """Train, logging one line every ten steps."""
    device = network.head.weight.device
    optimizer = torch.optim.AdamW(network.parameters(), config.lr, (0.9, 0.98), weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_rate, config=config))
    batches = load_batches(train, config, n_workers)
    if config.compile:
        network.bert.encoder.compile(dynamic=True)
    begun, n_tokens, losses = time.perf_counter(), 0, []
    network.train()
    for step in tqdm(range(1, config.steps + 1), desc="training", unit="step", mininterval=2):
        batch = next(batches).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            value = loss(logits(network, batch), batch.levels, config.level_weights)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        n_tokens += batch.ids.numel()
        losses.append(value.detach())
        if step % 10 == 0:
            rate = n_tokens / (time.perf_counter() - begun)
            mean, losses = float(torch.stack(losses).mean()), []
            line = {"step": step, "loss": mean, "lr": schedule.get_last_lr()[0], "tokens_per_s": rate}
            log.write(json.dumps(line) + "\n")
            log.flush()


def finish(network: SegmenterNetwork, dev: Sequence[Example], tokenizer: Tokenizer, out: Path) -> dict:
    """Choose the scale on dev, save, and report F1 on dev."""
    network.eval().to(fast_dtype(network.head.weight.device))
    found = predict(network, dev)
    scale = fit_scale(found, dev)
    save(out, network, tokenizer, scale)
    scores = [p @ scale.shares for p in found]
    report: dict = {"n_dev": len(dev)}
    for headings, other in (("stripped", "kept"), ("kept", "stripped")):
        some = [i for i, example in enumerate(dev) if example.headings != other]
        for level in (1, 2):
            macro, by_category = macro_f1([scores[i] for i in some], [dev[i] for i in some], level)
            name = f"dev_f1_level_{level}_{headings}"
            report |= {name: macro, f"{name}_by_category": by_category}
    return report


def _rate(step: int, config: SegmenterConfig) -> float:
    rising = min(1.0, (step + 1) / max(1, config.warmup))
    left = 1 - min(1.0, max(0, step - config.warmup) / max(1, config.steps - config.warmup))
    return rising * (0.02 + 0.98 * (1 - torch.cos(torch.tensor(left * torch.pi)).item()) / 2)


def _wanted(examples: Iterable[Example], config: SegmenterConfig) -> list[Example]:
    """The examples selected by the settings."""
    left_out = {"both": "", "kept": "stripped", "stripped": "kept"}[config.headings]
    return [e for e in examples if e.headings != left_out and e.dataset not in config.without]


def _first_of_each(examples: Iterable[Example], n: int) -> list[Example]:
    """The first `n` of each data set, with and without headings; all if `n` is 0."""
    counts: Counter[tuple[str, str]] = Counter()
    found = []
    for example in examples:
        counts[example.dataset, example.headings] += 1
        if not n or counts[example.dataset, example.headings] <= n:
            found.append(example)
    return found


def _tokenizer(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


if __name__ == "__main__":
    main()
