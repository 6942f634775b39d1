#!/usr/bin/env bash
# Train the shipped many-factor model: workflow/make_human.sh DATA
#
# DATA is laid out as factor_windows.py and binding_heads.py describe. Output goes to the current directory. An
# interrupted run continues. An epoch of all factors takes seconds on a GPU and most of an hour on two CPU cores; an
# epoch of a group takes three minutes of one core. Held out: chr6, chr17, chr20, chr22, chr2:95-98.5 Mb, the published
# test windows, and chr8 and chr10 for validation.
# The first encoder of the shipped file was made by this training loop on one GPU, with an earlier rule for the windows
# of an epoch (all windows of a factor up to 1,000, beyond the square root of 1,000 times their number) and an earlier
# version of the windows, which contained about 1,000 more that overlap held-out regions.
set -euo pipefail
data=$1
here=$(dirname "$0")

python3 "$here"/factor_windows.py "$data" factors
bertsnr train -o human.pt --encoder new --epochs 52 --val-chroms chr8,chr10 --background factors/background.fa.gz \
    --exclude factors/known.bed.gz --json human.json --resume factors/train
python3 - <<'END'
import csv

from bertsnr_tools.models.files import load_factors, save_model

model = load_factors("human.pt")[0].shared.model
with open("factors/factors.tsv") as table:
    matrices = {row["name"]: row["matrix"] for row in csv.DictReader(table, delimiter="\t")}
for info in model.infos:
    info.matrix = matrices[info.name]
save_model("human.pt", model)
END
# encoders for the factors that this one serves badly
python3 "$here"/factor_groups.py divide human.pt factors groups
for group in groups/[0-9]; do
    bertsnr train -o "$group.pt" --encoder human.pt --batch-size 64 --epochs 12 --val-chroms chr8,chr10 \
        --background factors/background.fa.gz --exclude "$group/known.bed.gz" --json "$group.json" --resume \
        "$group/train"
done
python3 "$here"/factor_groups.py join human.pt factors groups/*.pt
# more substitutions than training takes, in background windows that no training has seen
python3 "$here"/variant_nulls.py factors/background_held.fa.gz human.pt
python3 "$here"/binding_heads.py "$data" human.pt human.pt
