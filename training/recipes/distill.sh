#!/usr/bin/env bash
# Trains teacher, student and their comparisons, and judges them on one GPU.
#     training/recipes/distill.sh DATA OUT PHASE...
# DATA: a folder with examples.safetensors and qa/*.jsonl, as the phase `data` makes it; OUT: a folder for all results.
# Phases, in order: data (no GPU), teacher, student, compare, ablate, tables, long, curve. The first three after `data`,
# and tables, where none is named.
#     SOURCES=shared/data training/recipes/distill.sh DATA OUT data
# STEPS (400), EXAMPLES (16), LIMIT (100 questions of a file) and MODEL (smollm2) may be set in the environment.
set -euo pipefail
data=$1 out=$2
shift 2
steps=${STEPS:-400} examples=${EXAMPLES:-16} limit=${LIMIT:-100} model=${MODEL:-smollm2}
mkdir -p "$out"

student() {  # name, flags
    local name=$1
    shift
    python -m training.distill student --model "$model" --data "$data/examples.safetensors" --teacher "$out/teacher" \
        --out "$out/$name" --examples "$examples" --steps "$steps" "$@"
}

judge() {  # split, adapter, limit, passages, files; each file in a process of its own, since one leaves the GPU idle
    local split=$1 adapter=$2 most=$3 passages=$4 running=()
    shift 4
    for file in "$@"; do
        python -m training.evaluate qa --model "$model" --data "$data/qa/$file.jsonl" --split "$split" \
            --adapter "$out/$adapter" --limit "$most" --passages "$passages" --show 3 \
            --json "$out/$adapter-$split-$file.json" > "$out/$adapter-$split-$file.txt" 2>&1 &
        running+=($!)
    done
    for each in "${running[@]}"; do wait "$each"; done
    for file in "$@"; do tail -n 4 "$out/$adapter-$split-$file.txt" | grep '^|' || true; done
}

[ $# -gt 0 ] || set -- teacher student compare tables
for phase in "$@"; do
    echo "== $phase"
    case $phase in
    data)
        python -m training.distill prepare --model "$model" --qa "$SOURCES"/qa/*.zst --seg "$SOURCES"/seg/*.zst \
            --n "${N:-8000}" --out "$data/examples.safetensors"
        python -m training.distill questions --qa "$SOURCES"/qa/*.zst --splits dev test --most 250 --out "$data/qa"
        ;;
    teacher)
        python -m training.distill teacher --model "$model" --data "$data/examples.safetensors" --out "$out/teacher" \
            --examples "$examples" --steps "$steps"
        ;;
    student) student student ;;
    compare)
        student finetune --objective finetune
        student finetune-both --objective finetune-both
        ;;
    ablate)
        student no-sinks --sinks none --n-sinks 0
        student literal-sinks --sinks literal
        student no-dropout --dropout 0
        student no-weights --token-weights none
        student none-of-them --sinks none --n-sinks 0 --dropout 0 --token-weights none
        for name in student finetune finetune-both no-sinks literal-sinks no-dropout no-weights none-of-them; do
            judge dev "$name" "$limit" 20 nq_open_20doc hotpotqa_distractor covidqa
        done
        ;;
    tables)
        judge test student "$limit" 20 nq_open_20doc hotpotqa_distractor 2wikimultihopqa covidqa qmsum
        judge test finetune "$limit" 20 nq_open_20doc hotpotqa_distractor 2wikimultihopqa covidqa qmsum
        ;;
    long)
        python -m training.evaluate perplexity --model "$model" --data "$SOURCES"/seg/*.zst --adapter "$out/student" \
            --json "$out/student-long.json"
        ;;
    curve)  # the whole range of the slider: blocks as large as the bound lets them be
        for size in 64 128 256 512 1024 2048; do
            python -m training.evaluate perplexity --model "$model" --data "$SOURCES"/seg/*.zst --split dev --limit 2 \
                --adapter "$out/student" --granularity 0 --block-tokens $((size / 4)) $size --max-tokens 4096 \
                --json "$out/curve-$size.json" > "$out/curve-$size.txt"
        done
        for segmenter in structural fixed similarity; do
            python -m training.evaluate perplexity --model "$model" --data "$SOURCES"/seg/*.zst --split dev --limit 2 \
                --adapter "$out/student" --segmenter $segmenter --json "$out/by-$segmenter.json" > "$out/by-$segmenter.txt"
        done
        ;;
    esac
done
