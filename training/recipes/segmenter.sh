#!/usr/bin/env bash
# Trains the segmenter and its ablations, and judges the best on dev: about 20 minutes on one H100 or H200.
#     training/recipes/segmenter.sh DATA OUT        DATA: a built data set; OUT: a folder for all results
set -euo pipefail
data=$1 out=$2
train() {  # name, flags
    local name=$1
    shift
    python -m training.segmenter --train "$data/train.parquet" --dev "$data/dev.parquet" --out "$out/$name" "$@"
}
train main --steps 2500
for ablation in "kept --headings kept" "stripped --headings stripped" "one-sided --one-sided" \
    "window-128 --window 128 --overlap 32" "window-256 --window 256 --overlap 64" "not-packed --packed 0" \
    "no-second-stage --layers 0" "as-large-as-they-are --balance 0"; do
    # shellcheck disable=SC2086
    train $ablation --steps 600
done
train reference --steps 600
# sources never seen: one of every category that has two
without="code_multilang news_twir scientific_elife standards_gov_ietf techdocs_rustbook techdocs_turingway web_guides"
# shellcheck disable=SC2086
train unseen --steps 1500 --without $without
