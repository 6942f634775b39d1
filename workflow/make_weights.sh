#!/usr/bin/env bash
# Train the shipped models: workflow/make_weights.sh DATA
#
# DATA contains genome/{hg19,hg38}.sparse.fa.gz (bgzip, indexed), sites/<TF>.bed.gz (JASPAR sites, BED6), peaks/ (ENCODE
# CTCF peaks and the JASPAR 2018 scan of hg19 with MA0139.1). Needs bertsnr_tools, its extra jaspar, and bedtools.
# Output goes to the current directory. Training starts from the encoder of the shipped many-factor model.
# Held out for benchmarks: chr6, chr17, chr20 and chr22 from all models, and chr2:95-98.5 Mb from CTCF's sites and from
# background windows.
set -euo pipefail
data=$1
held='^chr(6|17|20|22)$'

# regions that are not held out, for background windows
allowed() {
    awk -v held="$held" -v OFS='\t' '
        $1 !~ held && $1 != "chr2" { print $1, 0, $2 }
        $1 == "chr2" { print $1, 0, 95000000; print $1, 98500000, $2 }' "$1.fai"
}

# CTCF: matches of JASPAR 2018's motif in CTCF peaks of any of three cell lines, p < 1e-5 or the best of their peak;
# and matches at JASPAR's sites on hg38 whose sequence is not among them
hg19=$data/genome/hg19.sparse.fa.gz
zcat "$data"/peaks/encode_awg.*.ctcf.hg19.bed.gz | sort -k1,1 -k2,2n | bedtools merge > ctcf.peaks.bed
zcat "$data"/peaks/encode_awg.*.hg19.bed.gz | sort -k1,1 -k2,2n | bedtools merge > every.peaks.bed
python3 -c '
from pyjaspar import jaspardb
counts = jaspardb(release="JASPAR2018").fetch_motif_by_id("MA0139.1").counts
print(">MA0139.1 CTCF")
for letter in "ACGT":
    print(letter, "[", *map(int, counts[letter]), "]")' > MA0139.1.jaspar
for build in hg19 hg38; do
    # a score of 1000 x / (4 + x) is p = 10^-x
    bertsnr predict -m MA0139.1.jaspar -t p=1e-4 -f "$data/genome/$build.sparse.fa.gz" |
        awk -v OFS='\t' '$3 - $2 == 19 { print $1, $2, $3, "CTCF", 4 * $5 / (1000 - $5), $6 }' > $build.matches.bed
done
bedtools intersect -wo -f 1 -a hg19.matches.bed -b ctcf.peaks.bed |
    awk -v OFS='\t' '{ print $0, $7 ":" $8 }' | sort -k11,11 -k5,5gr |
    awk '!seen[$11]++ || $5 >= 5' | cut -f1-6 | sort -u -k1,1 -k2,2n |
    awk -v held="$held" '$1 !~ held && !($1 == "chr2" && $3 > 95000000 && $2 < 98500000)' > CTCF.hg19.bed
zcat "$data/sites/CTCF.bed.gz" | bedtools intersect -u -a hg38.matches.bed -b - |
    awk -v held="$held" '$1 !~ held && $1 != "chr2"' > CTCF.hg38.bed
for build in hg19 hg38; do
    bertsnr windows -f "$data/genome/$build.sparse.fa.gz" CTCF.$build.bed > CTCF.$build.fa
done
awk '/^>/ { header = $0; split($0, parts, "site="); from = parts[2] + 0; next } { word = substr($0, from + 1, 19) }
    FNR == NR { seen[word] = 1 }
    FNR == NR || !(word in seen) { print header; print }' CTCF.hg19.fa CTCF.hg38.fa > CTCF.windows.fa
allowed "$hg19" > allowed.bed
bertsnr windows --background -c 50 -b allowed.bed --exclude every.peaks.bed -f "$hg19" CTCF.hg19.bed \
    > CTCF.background.fa
# three teachers, and the model that is distilled from them
common=(--background CTCF.background.fa --hard-negatives --val-chroms chr8,chr10 --resume CTCF.windows.fa)
bertsnr train -o CTCF.1.pt "${common[@]}"
bertsnr train -o CTCF.2.pt --seed 2 --epochs 4 "${common[@]}"
bertsnr train -o CTCF.3.pt --seed 3 --epochs 4 "${common[@]}"
teachers=(--teacher CTCF.1.pt --teacher CTCF.2.pt --teacher CTCF.3.pt)
bertsnr train -o CTCF.pt "${teachers[@]}" --swap 0.5 --epochs 12 --prefilter --json CTCF.json "${common[@]}"
# the peaks are not called on chrX and chrY, where background windows may contain bound sites: leave these out of the
# null distribution
python3 - <<'END'
import torch

from bertsnr_tools.models.files import load_model, save_model
from bertsnr_tools.predict.significance import NullDistribution, window_call_levels
from bertsnr_tools.sequence.windows import loci, read_windows
from bertsnr_tools.training.config import Recipe
from bertsnr_tools.training.data import TrainingInputs, split_data

positives = read_windows("CTCF.windows.fa", True, 3)
background = read_windows("CTCF.background.fa", False, 3)
recipe = Recipe(val_chroms=("chr8", "chr10"))
null = split_data(TrainingInputs(positives, background=background), recipe).null_windows
null = null.take([row for row, chrom in enumerate(loci(null)[1]) if chrom not in ("chrX", "chrY")])
model = load_model("CTCF.pt")
runtime = Recipe(precision=model.info.training["recipe"]["precision"]).runtime(torch.device("cpu"))
model.info.null = NullDistribution.fit(window_call_levels(model, null, runtime), 100).as_dict()
save_model("CTCF.pt", model)
END

for tf in CDX2 GATA3 SRF YY1; do
    zcat "$data/sites/$tf.bed.gz" > $tf.every.bed
    awk -v held="$held" '$1 !~ held' $tf.every.bed > $tf.sites.bed
    build=$(awk 'NR == 1 { print substr($4, 1, 4) }' $tf.sites.bed)
    genome=$data/genome/$build.sparse.fa.gz
    bertsnr windows -f "$genome" $tf.sites.bed > $tf.windows.fa
    allowed "$genome" > allowed.bed
    awk 'NR <= 1000' $tf.sites.bed |
        bertsnr windows --background -c 100 -b allowed.bed --exclude $tf.every.bed -f "$genome" > $tf.background.fa
    bertsnr train -o $tf.pt --background $tf.background.fa --prefilter --json $tf.json --resume $tf.windows.fa
done
# more substitutions than training takes, in background windows of make_human.sh that no training has seen
python3 "$(dirname "$0")"/variant_nulls.py factors/background_held.fa.gz CTCF.pt CDX2.pt GATA3.pt SRF.pt YY1.pt
