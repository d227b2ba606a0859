#!/usr/bin/env bash
# Runs everything that needs a GPU: the CUDA tests and all benchmarks. Writes logs, JSON and plots to a folder.
#     benchmarks/gpu.sh OUT [SHAPE...]
# SHAPE: llama-3.1-8b, qwen3-4b (default: both). About 15 minutes on one H100; 5 GB of free disk for the tiers.
set -euo pipefail
[ $# -gt 0 ] || { sed -n '2,4p' "$0" >&2; exit 2; }
out=$1
shift
[ $# -gt 0 ] || set -- llama-3.1-8b qwen3-4b
mkdir -p "$out"

test_cuda() {  # name, test selection; three processes at once, since one does not fill the GPU
    python -m pytest tests/test_cuda.py -m gpu -q -o addopts= -rs --durations=3 -k "$2" > "$out/cuda-tests-$1.log" 2>&1
}

for shape in "$@"; do  # one process per shape, since creating the weights takes longest
    python -c "
import sys
from benchmarks import decode, encode, tiers, ttft
shape, out = sys.argv[1:]
def run(benchmark, *lengths):
    name = benchmark.__name__.rpartition('.')[2]
    benchmark.main(['--model', shape, '--lengths', *map(str, lengths), '--json', f'{out}/{name}-{shape}.json'])
run(ttft, 512, 1024, 4096, 16384, 32768, 65536)
run(encode, 32768)
run(decode, 512, 8192, 32768)
run(tiers, 4096, 32768)
" "$shape" "$out" 2>&1 | tee "$out/$shape.log"
    python -m benchmarks.plot "$out"/*-"$shape".json
done

graphs="graphs_prefill or cached_logits"
families="other_families or rotate or bfloat16 or attention_over"
test_cuda graphs "$graphs" & one=$!
test_cuda families "$families" & two=$!
test_cuda rest "not ($graphs or $families)" & three=$!
failed=0
for each in $one $two $three; do wait "$each" || failed=1; done
tail -n 3 "$out"/cuda-tests-*.log
exit $failed
