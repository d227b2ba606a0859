#!/usr/bin/env bash
# Trains teacher, student and their comparisons, and judges them on one GPU.
#     training/recipes/distill.sh DATA OUT PHASE...
# DATA: a folder with examples.safetensors and qa/*.jsonl, as the phase `data` makes it; OUT: a folder for all results.
# Phases, in order: data (no GPU), teacher, students, tables, ablate, long, curve. Teacher, students and tables where none
# is named.
#     SOURCES=shared/data training/recipes/distill.sh DATA OUT data
# What stands below with :- may be set in the environment. Several runs share the GPU, since one leaves it idle.
set -euo pipefail
data=$1 out=$2
shift 2
model=${MODEL:-smollm2}
teacher_steps=${TEACHER_STEPS:-400} steps=${STEPS:-800} examples=${EXAMPLES:-16} pack=${PACK_TOKENS:-16384}
limit=${LIMIT:-250}                                                   # questions of a file in the tables
seeds=${SEEDS:-0 1 2} short_steps=${SHORT_STEPS:-200} short_limit=${SHORT_LIMIT:-60}          # of the ablations
at_once=${AT_ONCE:-5}
mkdir -p "$out"

student() {  # name, flags
    local name=$1
    shift
    python -m training.distill student --model "$model" --data "$data/examples.safetensors" --teacher "$out/teacher" \
        --out "$out/$name" --examples "$examples" --pack-tokens "$pack" "$@" > "$out/$name.json" 2> "$out/$name.err"
    tail -n 1 "$out/$name.json"
}

judge() {  # name of the result, adapter, split, flags
    local name=$1 adapter=$2 split=$3
    shift 3
    python -m training.evaluate qa --model "$model" --adapter "$out/$adapter" --split "$split" --passages 20 --show 3 \
        --json "$out/$name.json" "$@" > "$out/$name.txt" 2>&1
    grep '^|' "$out/$name.txt" || { tail -n 3 "$out/$name.txt"; false; }
}

at_once() {  # lines of what to run, from standard input
    export -f student judge
    export model data out examples pack
    xargs -P "$at_once" -I{} bash -c 'set -euo pipefail; {}'
}

variants() {  # name and flags of each
    echo "reference"
    echo "no-sinks --sinks none --n-sinks 0"
    echo "literal-sinks --sinks literal"
    echo "no-dropout --dropout 0"
    echo "no-weights --token-weights none"
    echo "finetune-short --objective finetune"
}

[ $# -gt 0 ] || set -- teacher students tables
for phase in "$@"; do
    echo "== $phase"
    case $phase in
    data)
        python -m training.distill prepare --model "$model" --qa "$SOURCES"/qa/* --seg "$SOURCES"/seg/* \
            --n "${N:-8000}" --out "$data/examples.safetensors"
        python -m training.distill questions --qa "$SOURCES"/qa/* --splits dev test --most 250 --out "$data/qa"
        ;;
    teacher)
        python -m training.distill teacher --model "$model" --data "$data/examples.safetensors" --out "$out/teacher" \
            --examples "$examples" --pack-tokens "$pack" --steps "$teacher_steps"
        ;;
    students)
        at_once <<< "student student --steps $steps
student finetune --objective finetune --steps $steps
student finetune-both --objective finetune-both --steps $steps"
        ;;
    tables)
        for adapter in student finetune finetune-both; do
            for file in nq_open_20doc hotpotqa_distractor 2wikimultihopqa covidqa qmsum; do
                echo "judge $adapter-test-$file $adapter test --limit $limit --data $data/qa/$file.jsonl"
            done
        done | at_once
        ;;
    ablate)
        for seed in $seeds; do
            variants | sed -E "s/^([^ ]+)(.*)/student \1-$seed --seed $seed --steps $short_steps\2/"
        done | at_once
        for seed in $seeds; do
            variants | sed -E "s/^([^ ]+).*/\1-$seed/"
        done | while read -r name; do
            echo "judge $name-dev $name dev --limit $short_limit --modes full,block --data" \
                "$data"/qa/{nq_open_20doc,hotpotqa_distractor,covidqa}.jsonl
        done | at_once
        ;;
    long)
        python -m training.evaluate perplexity --model "$model" --data "$SOURCES"/seg/* --adapter "$out/student" \
            --json "$out/student-long.json"
        ;;
    curve)  # the whole range of the slider: blocks as large as the bound lets them be
        for size in 64 128 256 512 1024 2048; do
            echo "curve-$size --granularity 0 --block-tokens $((size / 4)) $size"
        done > "$out/curve.list"
        printf 'by-%s --segmenter %s\n' neural neural structural structural fixed fixed similarity similarity >> "$out/curve.list"
        sed -E "s#^([^ ]+)(.*)#python -m training.evaluate perplexity --model $model --data $SOURCES/seg/* --split dev \
--limit 2 --adapter $out/student --max-tokens 4096\2 --json $out/\1.json > $out/\1.txt#" "$out/curve.list" | at_once
        ;;
    esac
done
