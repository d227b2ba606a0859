#!/usr/bin/env bash
# Trains and evaluates teacher, student and their comparisons, on one or more GPUs.
#     training/recipes/distill.sh DATA OUT PHASE...
# DATA: folder with examples.safetensors and qa/*.jsonl, as made by the phase `data`; OUT: folder for all results.
# Phases, in order: data (no GPU), selfmade (the model's own questions and answers, used besides), teacher, students, control (a
# teacher of full mode alone, and its student), tables, ablate, ablation-tables, long, curve. Default: teacher students tables curve.
# TEACHER=published makes the model as published the teacher, without the phase teacher: the default for models other than SmolLM2.
# Values below with :- can be set in the environment. Teachers use all GPUs at once; other runs use one each.
set -euo pipefail
data=$1 out=$2
shift 2
model=${MODEL:-smollm2} sources=${SOURCES:-shared/data}
read -ra gpus <<< "${GPUS:-0}"
teacher_steps=${TEACHER_STEPS:-1600} steps=${STEPS:-400}
made=${EXAMPLES:---n 24000 --built 0.3 --more-turns 0.6 --most-turns 3}     # flags for building examples
[ "$model" = smollm2 ] && by_default=teacher || by_default=published
student_teacher=${TEACHER:-$by_default}                               # teacher of the students
written=${SELFMADE:---n 8000}                                         # flags of the self-made conversations
reader=${READER:---objective finetune-both --agreement 1}             # flags of the teacher
flags=${STUDENT:---rank 16 --hidden-weight 1}                         # flags of the student and its comparisons
adapters=${ADAPTERS:-shipped finetune}                                # adapters in the tables
limit=${LIMIT:-250}                                                   # questions per file in the tables
seeds=${SEEDS:-0 1 2} short_steps=${SHORT_STEPS:-200} short_limit=${SHORT_LIMIT:-60}          # for ablations
mkdir -p "$out"

teacher() {  # name, flags; on all GPUs
    local name=$1
    shift
    CUDA_VISIBLE_DEVICES=$(IFS=,; echo "${gpus[*]}") torchrun --nproc-per-node "${#gpus[@]}" -m training.distill teacher \
        --model "$model" --data "$data/examples.safetensors" --out "$out/$name" --steps "$teacher_steps" --lr 1e-3 "$@"
}

student() {  # name, teacher, flags
    local name=$1 teacher=$2
    shift 2
    local examples=("$data/examples.safetensors") frozen=()
    [ ! -e "$data/selfmade.safetensors" ] || examples+=("$data/selfmade.safetensors")
    [ "$teacher" = published ] || frozen=(--teacher "$out/$teacher")
    # shellcheck disable=SC2086
    python -m training.distill student --model "$model" --data "${examples[@]}" "${frozen[@]}" \
        --out "$out/$name" $flags "$@" > "$out/$name.json" 2> "$out/$name.err"
    tail -n 1 "$out/$name.json"
}

ship() {  # name; writes the adapter in 8 bits, as shipped
    python -m training.distill shrink --adapter "$out/$1" --out "$out/shipped"
}

evaluate() {  # name of the result, adapter, split, flags
    local name=$1 adapter=$2 split=$3
    shift 3
    python -m training.evaluate qa --model "$model" --adapter "$out/$adapter" --split "$split" --json "$out/$name.json" \
        --passages 20 --max-tokens 4096 --show 3 "$@" > "$out/$name.txt" 2>&1
    grep '^|' "$out/$name.txt" || { tail -n 3 "$out/$name.txt"; false; }
}

at_once() {  # jobs per GPU; reads commands from standard input, one per line
    export -f student ship evaluate
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
    echo "no-distance --hidden-weight 0"
    echo "finetune-short --objective finetune"
}

[ $# -gt 0 ] || if [ "$student_teacher" = published ]; then set -- students tables curve; else set -- teacher students tables curve; fi
for phase in "$@"; do
    echo "== $phase"
    case $phase in
    data)
        # shellcheck disable=SC2086
        python -m training.distill prepare --model "$model" --qa "$sources"/qa/* --seg "$sources"/seg/* $made \
            --out "$data/examples.safetensors"
        python -m training.distill questions --qa "$sources"/qa/* --splits dev test --most 250 --out "$data/qa"
        ;;
    selfmade)
        # shellcheck disable=SC2086
        python -m training.distill selfmade --model "$model" --qa "$sources"/qa/* --seg "$sources"/seg/* $written \
            --out "$data/selfmade.jsonl"
        python -m training.distill prepare --model "$model" --made "$data/selfmade.jsonl" --out "$data/selfmade.safetensors"
        ;;
    teacher)
        # shellcheck disable=SC2086
        teacher teacher $reader
        ;;
    students)
        at_once 1 <<- END
			student student $student_teacher --steps $steps && ship student
			student finetune $student_teacher --objective finetune --steps $steps
		END
        ;;
    control)
        teacher full-teacher
        student full-student full-teacher --steps "$steps"
        ;;
    tables)
        for adapter in $adapters; do
            for file in qmsum nq_open_20doc hotpotqa_distractor covidqa 2wikimultihopqa; do
                echo "evaluate $adapter-test-$file $adapter test --limit $limit --data $data/qa/$file.jsonl"
            done
        done | at_once 5
        ;;
    ablate)
        for seed in $seeds; do
            variants | sed -E "s/^([^ ]+)(.*)/student \1-$seed $student_teacher --seed $seed --examples 8 --steps $short_steps\2/"
        done | at_once 1
        ;;
    ablation-tables)
        for seed in $seeds; do
            variants | sed -E "s/^([^ ]+).*/\1-$seed/"
        done | while read -r name; do
            echo "evaluate $name-dev $name dev --limit $short_limit --modes full,block --data" \
                "$data"/qa/{nq_open_20doc,hotpotqa_distractor,covidqa}.jsonl
        done | at_once 6
        ;;
    long)
        python -m training.evaluate perplexity --model "$model" --data "$sources"/seg/* --adapter "$out/shipped" \
            --json "$out/shipped-long.json"
        ;;
    curve)  # the whole range of the slider, by maximum block size
        for size in 64 128 256 512 1024 2048; do
            echo "curve-$size --granularity 0 --block-tokens $((size / 4)) $size"
        done > "$out/curve.list"
        for segmenter in neural structural fixed similarity; do
            echo "by-$segmenter --segmenter $segmenter"
        done >> "$out/curve.list"
        sed -E "s#^([^ ]+)(.*)#python -m training.evaluate perplexity --model $model --data $sources/seg/* --split dev \
--limit 2 --adapter $out/shipped --max-tokens 4096\2 --json $out/\1.json > $out/\1.txt#" "$out/curve.list" | at_once 5
        python -m training.evaluate curve --data "$out"/curve-*.json "$out"/by-*.json --out "$out/curve.png"
        ;;
    esac
done
