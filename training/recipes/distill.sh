#!/usr/bin/env bash
# Trains teacher, student and their comparisons, and judges them, on one GPU or several.
#     training/recipes/distill.sh DATA OUT PHASE...
# DATA: a folder with reader.safetensors, examples.safetensors and qa/*.jsonl, as the phase `data` makes it; OUT: a folder
# for all results. Phases, in order: data (no GPU), teacher, students, tables, ablate, ablation-tables, long, curve.
# Teacher, students and tables where none is named.
#     SOURCES=shared/data training/recipes/distill.sh DATA OUT data
# What stands below with :- may be set in the environment. The teacher uses all GPUs at once; other runs take one each.
set -euo pipefail
data=$1 out=$2
shift 2
model=${MODEL:-smollm2}
read -ra gpus <<< "${GPUS:-0}"
teacher_steps=${TEACHER_STEPS:-700} steps=${STEPS:-800}
flags=${STUDENT:---rank 16}                                           # of the student and all that it is compared with
adapters=${ADAPTERS:-shipped finetune finetune-both}                  # that the tables judge
limit=${LIMIT:-250}                                                   # questions of a file in them
seeds=${SEEDS:-0 1 2} short_steps=${SHORT_STEPS:-200} short_limit=${SHORT_LIMIT:-60}          # of the ablations
mkdir -p "$out"

student() {  # name, flags
    local name=$1
    shift
    # shellcheck disable=SC2086
    python -m training.distill student --model "$model" --data "$data/examples.safetensors" --teacher "$out/teacher" \
        --out "$out/$name" $flags "$@" > "$out/$name.json" 2> "$out/$name.err"
    tail -n 1 "$out/$name.json"
}

ship() {  # name: as it ships, in 8 bits
    python -m training.distill shrink --adapter "$out/$1" --out "$out/shipped"
}

judge() {  # name of the result, adapter, split, flags
    local name=$1 adapter=$2 split=$3
    shift 3
    python -m training.evaluate qa --model "$model" --adapter "$out/$adapter" --split "$split" --json "$out/$name.json" \
        --passages 20 --max-tokens 4096 --show 3 "$@" > "$out/$name.txt" 2>&1
    grep '^|' "$out/$name.txt" || { tail -n 3 "$out/$name.txt"; false; }
}

at_once() {  # how many on each GPU; lines of what to run, from standard input
    export -f student ship judge
    export model data out flags
    devices="${gpus[*]}" xargs -P $(($1 * ${#gpus[@]})) --process-slot-var=slot -I{} bash -c '
        set -euo pipefail
        read -ra devices <<< "$devices"
        export CUDA_VISIBLE_DEVICES=${devices[slot % ${#devices[@]}]}
        {}'
}

variants() {  # name and flags of each
    echo "reference"
    echo "strict --no-prefix-visible"
    echo "strict-sinks --no-prefix-visible --sinks learned"
    echo "strict-literal-sinks --no-prefix-visible --sinks literal"
    echo "sinks --sinks learned"
    echo "no-dropout --dropout 0"
    echo "weights --token-weights damage"
    echo "finetune-short --objective finetune"
}

[ $# -gt 0 ] || set -- teacher students tables
for phase in "$@"; do
    echo "== $phase"
    case $phase in
    data)  # the teacher learns from many questions to a text; the student mostly from those that people asked
        python -m training.distill prepare --model "$model" --qa "$SOURCES"/qa/* --seg "$SOURCES"/seg/* \
            --n "${READER_N:-16000}" --out "$data/reader.safetensors"
        python -m training.distill prepare --model "$model" --qa "$SOURCES"/qa/* --seg "$SOURCES"/seg/* \
            --n "${N:-32000}" --built 0.2 --more-turns 0.5 --most-turns 2 --seed 1 --out "$data/examples.safetensors"
        python -m training.distill questions --qa "$SOURCES"/qa/* --splits dev test --most 250 --out "$data/qa"
        ;;
    teacher)
        CUDA_VISIBLE_DEVICES=$(IFS=,; echo "${gpus[*]}") torchrun --nproc-per-node "${#gpus[@]}" -m training.distill \
            teacher --model "$model" --data "$data/reader.safetensors" --out "$out/teacher" --steps "$teacher_steps" --lr 1e-3
        ;;
    students)
        at_once 1 <<- END
			student student --steps $steps && ship student
			student finetune --objective finetune --steps $steps
			student finetune-both --objective finetune-both --steps $steps
		END
        ;;
    tables)
        for adapter in $adapters; do
            for file in qmsum nq_open_20doc hotpotqa_distractor covidqa 2wikimultihopqa; do
                echo "judge $adapter-test-$file $adapter test --limit $limit --data $data/qa/$file.jsonl"
            done
        done | at_once 5
        ;;
    ablate)
        for seed in $seeds; do
            variants | sed -E "s/^([^ ]+)(.*)/student \1-$seed --seed $seed --examples 8 --steps $short_steps\2/"
        done | at_once 1
        ;;
    ablation-tables)
        for seed in $seeds; do
            variants | sed -E "s/^([^ ]+).*/\1-$seed/"
        done | while read -r name; do
            echo "judge $name-dev $name dev --limit $short_limit --modes full,block --data" \
                "$data"/qa/{nq_open_20doc,hotpotqa_distractor,covidqa}.jsonl
        done | at_once 6
        ;;
    long)
        python -m training.evaluate perplexity --model "$model" --data "$SOURCES"/seg/* --adapter "$out/shipped" \
            --json "$out/shipped-long.json"
        ;;
    curve)  # the whole range of the slider: blocks as large as the bound lets them be
        for size in 64 128 256 512 1024 2048; do
            echo "curve-$size --granularity 0 --block-tokens $((size / 4)) $size"
        done > "$out/curve.list"
        for segmenter in neural structural fixed similarity; do
            echo "by-$segmenter --segmenter $segmenter"
        done >> "$out/curve.list"
        sed -E "s#^([^ ]+)(.*)#python -m training.evaluate perplexity --model $model --data $SOURCES/seg/* --split dev \
--limit 2 --adapter $out/shipped --max-tokens 4096\2 --json $out/\1.json > $out/\1.txt#" "$out/curve.list" | at_once 5
        ;;
    esac
done
