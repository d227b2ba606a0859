"""``python -m training.segmenter --train FILES --dev FILES --out FOLDER``: train, choose the scale on dev, save."""

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
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
from blockrag.segment.neural.weights import save
from training.corpus import Row, first_of_each, read_rows
from training.segmenter.batches import load_batches, logits, loss
from training.segmenter.config import SegmenterConfig, add_flags, from_flags
from training.segmenter.examples import Example, make_example
from training.segmenter.scoring import fit_scale, macro_f1, predict

_BERT_FIELDS = (
    "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size max_position_embeddings "
    "type_vocab_size layer_norm_eps"
).split()


def main(argv: Sequence[str] | None = None) -> None:
    """Read the flags and run."""
    parser = argparse.ArgumentParser(prog="python -m training.segmenter", description=__doc__)
    parser.add_argument("--train", nargs="+", required=True, help="files of the data set")
    parser.add_argument("--dev", nargs="+", required=True, help="files whose dev split chooses the scale")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, configuration and log")
    parser.add_argument("--encoder", default="minilm", help="what the encoder begins as (default: minilm)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dev-texts", type=int, default=0, help="most dev texts of a source; 0 for all")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1), help="processes that prepare")
    add_flags(parser)
    args = parser.parse_args(argv)
    config = from_flags(args)
    torch.manual_seed(config.seed)
    tokenizer = _tokenizer(local_path(args.encoder))
    train = _examples(_wanted(read_rows(args.train), "train", config), tokenizer, args.workers)
    dev_rows = first_of_each(_wanted(read_rows(args.dev), "dev", config), args.dev_texts, "dataset", "variant")
    dev = _examples(dev_rows, tokenizer, args.workers)
    network = begin(local_path(args.encoder), config).to(args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / "log.jsonl").open("w") as log:
        fit(network, train, config, log, args.workers)
        report = finish(network, dev, tokenizer, args.out)
        log.write(json.dumps(report) + "\n")
    (args.out / "training.json").write_text(json.dumps(asdict(config) | report, indent=1) + "\n")
    print(json.dumps(report))


def begin(encoder: Path, config: SegmenterConfig) -> SegmenterNetwork:
    """The untrained network: its encoder is the one in that folder."""
    bert = AutoModel.from_pretrained(encoder, dtype=torch.float32)
    sizes = {name: getattr(bert.config, name) for name in _BERT_FIELDS}
    network = SegmenterNetwork(
        NetworkConfig(sizes, config.layers, config.window, config.overlap, one_sided=config.one_sided)
    )
    weights = {name: tensor for name, tensor in bert.state_dict().items() if not name.startswith("pooler.")}
    network.bert.load_state_dict(weights)
    return network


def fit(
    network: SegmenterNetwork, train: Sequence[Example], config: SegmenterConfig, log: IO[str], n_workers: int
) -> None:
    """Train; one line of `log` every ten steps."""
    device = network.head.weight.device
    optimizer = torch.optim.AdamW(network.parameters(), config.lr, (0.9, 0.98), weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_rate, config=config))
    batches = load_batches(train, config, n_workers)
    begun, n_tokens, losses = time.perf_counter(), 0, []
    network.train()
    for step in tqdm(range(1, config.steps + 1), desc="training", unit="step"):
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
    """Choose the scale on dev, save, and tell how well candidates are ordered there."""
    network.eval().to(torch.bfloat16)
    found = predict(network, dev)
    scale = fit_scale(found, dev)
    save(out, network, tokenizer, scale)
    report: dict = {"n_dev": len(dev)}
    for level in (1, 2):
        macro, by_category = macro_f1([p @ scale.shares for p in found], dev, level)
        report |= {f"dev_f1_level_{level}": macro, f"dev_f1_level_{level}_by_category": by_category}
    return report


def _rate(step: int, config: SegmenterConfig) -> float:
    rising = min(1.0, (step + 1) / max(1, config.warmup))
    left = 1 - min(1.0, max(0, step - config.warmup) / max(1, config.steps - config.warmup))
    return rising * (0.02 + 0.98 * (1 - torch.cos(torch.tensor(left * torch.pi)).item()) / 2)


def _wanted(rows: Iterable[Row], split: str, config: SegmenterConfig) -> Iterable[Row]:
    """Rows of the split that the settings ask for; dev keeps all sources."""
    for row in rows:
        headings = row.get("variant", "kept")
        is_asked = split == "dev" or (config.headings in ("both", headings) and row["dataset"] not in config.without)
        if row["split"] == split and is_asked:
            yield row


def _examples(rows: Iterable[Row], tokenizer: Tokenizer, n_workers: int) -> list[Example]:
    make = partial(make_example, tokenizer=tokenizer)
    with ProcessPoolExecutor(n_workers, multiprocessing.get_context("fork")) as pool:
        return list(tqdm(pool.map(make, rows, chunksize=16), desc="encoding", unit="text"))


def _tokenizer(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


if __name__ == "__main__":
    main()
