#!/usr/bin/env bash
# Trains the segmenter, one without some sources, and the ablations: 10 minutes on one H100.
#     training/recipes/segmenter.sh DATA OUT [FLAGS]    DATA: a built data set; OUT: a folder for all results
set -euo pipefail
data=$1 out=$2
shift 2
all=("$@")                    # such as --encoder FOLDER without a network
export TOKENIZERS_PARALLELISM=false
mkdir -p "$out"
train() {  # name, flags
    local name=$1
    shift
    python3 -m training.segmenter --train "$data"/train.* --dev "$data"/dev.* --encoded "$out/encoded" \
        --out "$out/$name" "${all[@]}" "$@" >"$out/$name.json" 2>"$out/$name.err"
}
train encoded-once --steps 1 --texts 1 --dev-texts 1   # the other runs load what this one encodes
train main --dev-texts 40 --workers 8 &
# one source of every category that has two
without="code_multilang news_twir scientific_elife standards_gov_ietf techdocs_rustbook techdocs_turingway web_guides"
# shellcheck disable=SC2086
train unseen --dev-texts 40 --steps 1000 --texts 12 --workers 5 --without $without
for ablation in "reference" "headings-kept --headings kept" "headings-stripped --headings stripped" \
    "one-sided --one-sided" "window-256 --window 256 --overlap 64" "not-packed --packed 0" "no-second-stage --layers 0"; do
    # shellcheck disable=SC2086
    train $ablation --steps 400 --texts 8 --dev-texts 20 --workers 5
done
wait
if [ -n "${SOURCES:-}" ]; then   # choose the default granularity on whole documents
    python3 -m training.segmenter.scale --neural "$out/main" --data "$SOURCES"/seg/* --write
fi
