#!/usr/bin/env bash
# Train the shipped models anew: bertsnr_tools/models/make.sh DATA
#
# DATA holds genome/{hg19,hg38}.sparse.fa.gz (bgzip, indexed), sites/<TF>.bed.gz (JASPAR sites, BED6) and peaks/ (ENCODE CTCF
# peaks and the JASPAR 2018 scan of hg19 with MA0139.1), and for the encoder windows/ (the published ones). Needs bertsnr_tools and
# bedtools. Files are made in the current folder.
# chr6, chr17, chr20 and chr22 are left out of every model, and chr2:95-98.5 Mb of CTCF's sites and of the natural windows, so that scans
# of them can judge it.
set -euo pipefail
data=$1
held='^chr(6|17|20|22)$'

# the encoder that training begins with: 78 factors, of which none is in the table of benchmarks/paper.py
python3 "$(dirname "$0")"/../../benchmarks/pooled_windows.py "$data" pooled
bertsnr pretrain --task sites -o encoder3 --steps 8000 --batch-size 64 --lr 0.0015 --resume pooled/*.fa

# natural windows come from the chromosomes that are not left out
allowed() {
    awk -v held="$held" -v OFS='\t' '$1 !~ held && $1 != "chr2" { print $1, 0, $2 } $1 == "chr2" { print $1, 0, 95000000; print $1, 98500000, $2 }' "$1.fai"
}

# CTCF: matches of JASPAR 2018's matrix in CTCF peaks of any of three cell lines, p < 1e-5 or the best of its peak; and of hg38, where
# JASPAR has a site, those whose letters hg19's do not have
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
bedtools intersect -wo -f 1 -a hg19.matches.bed -b ctcf.peaks.bed | awk -v OFS='\t' '{ print $0, $7 ":" $8 }' | sort -k11,11 -k5,5gr |
    awk '!seen[$11]++ || $5 >= 5' | cut -f1-6 | sort -u -k1,1 -k2,2n |
    awk -v held="$held" '$1 !~ held && !($1 == "chr2" && $3 > 95000000 && $2 < 98500000)' > CTCF.hg19.bed
zcat "$data/sites/CTCF.bed.gz" | bedtools intersect -u -a hg38.matches.bed -b - | awk -v held="$held" '$1 !~ held && $1 != "chr2"' > CTCF.hg38.bed
for build in hg19 hg38; do
    bertsnr windows -f "$data/genome/$build.sparse.fa.gz" CTCF.$build.bed > CTCF.$build.fa
done
awk '/^>/ { header = $0; split($0, parts, "site="); from = parts[2] + 0; next } { word = substr($0, from + 1, 19) }
    FNR == NR { seen[word] = 1 } FNR == NR || !(word in seen) { print header; print }' CTCF.hg19.fa CTCF.hg38.fa > CTCF.windows.fa
allowed "$hg19" > allowed.bed
bertsnr windows --background -c 50 -b allowed.bed --exclude every.peaks.bed -f "$hg19" CTCF.hg19.bed > CTCF.natural.fa
# three models, and one that has learned from all of them
common=(--background CTCF.natural.fa --hard-negatives --val-chroms chr8,chr10 --resume CTCF.windows.fa)
bertsnr train -o CTCF.1.pt "${common[@]}"
bertsnr train -o CTCF.2.pt --seed 2 --epochs 4 "${common[@]}"
bertsnr train -o CTCF.3.pt --seed 3 --epochs 4 "${common[@]}"
bertsnr train -o CTCF.pt --teacher CTCF.1.pt --teacher CTCF.2.pt --teacher CTCF.3.pt --swap 0.5 --epochs 12 --prefilter --json CTCF.json "${common[@]}"
# the peaks have none on chrX and chrY, where natural windows thus hold sites that are bound: p-values are of the other chromosomes
python3 -c '
from bertsnr_tools import model, significance, training, windows
positives, natural = windows.read_windows("CTCF.windows.fa", True, 3, None), windows.read_windows("CTCF.natural.fa", False, 3, 100)
null = training.split_data(positives, None, {"chr8", "chr10"}, 0.1, 1, natural, training.Recipe().natural).null
null = null.take([row for row, chrom in enumerate(windows.loci(null)[1]) if chrom not in ("chrX", "chrY")])
ctcf = model.load_model("CTCF.pt")
heights = significance.window_peaks(ctcf, null, ctcf.info.training["recipe"]["precision"], training.EVALUATION_BATCH)
ctcf.info.background = significance.Background.of(heights, 100).as_dict()
model.save_model("CTCF.pt", ctcf)'

for tf in CDX2 GATA3 SRF YY1; do
    zcat "$data/sites/$tf.bed.gz" > $tf.every.bed
    awk -v held="$held" '$1 !~ held' $tf.every.bed > $tf.sites.bed
    build=$(awk 'NR == 1 { print substr($4, 1, 4) }' $tf.sites.bed)
    genome=$data/genome/$build.sparse.fa.gz
    bertsnr windows -f "$genome" $tf.sites.bed > $tf.windows.fa
    allowed "$genome" > allowed.bed
    awk 'NR <= 1000' $tf.sites.bed | bertsnr windows --background -c 100 -b allowed.bed --exclude $tf.every.bed -f "$genome" > $tf.natural.fa
    bertsnr train -o $tf.pt --background $tf.natural.fa --prefilter --json $tf.json --resume $tf.windows.fa
done
