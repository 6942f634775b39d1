# From ChIP-seq peaks to a model of their factor that calls its sites at base resolution.
#
#     snakemake -s workflow/peaks.smk --cores 2 \
#         --config peaks=peaks.narrowPeak fasta=hg38.fa matrix=jaspar:GATA3 atac=atac.bed
#
# The best match of the matrix around the summit of each peak is a site. A model is trained on these sites, against
# their shuffles and background windows without a peak. Chromosomes that it is not trained on test it.
# Output in the directory NAME, the name of the factor: NAME.pt, the model; calls.narrowPeak, the sites that it calls in
# the peaks; motif.meme, .png and .tsv, their motif beside JASPAR's; evaluation.tsv; and summary.html with all figures.
# Requires the extras plot, motifs and jaspar. Settings, with --config or in a --configfile:
#     peaks        BED file of peaks, best narrowPeak with summits
#     fasta        genome; indexed first
#     matrix       jaspar:NAME, a motif file, or a model
#     name         name of the factor (default: the name of the matrix, such as CTCF for jaspar:MA0139)
#     atac         BED file of accessible regions, to draw background windows from (default: from the whole genome)
#     test_chroms  chromosomes for the test, separated by commas (default chr6,chr17,chr20,chr22)
#     val_chroms   chromosomes that choose the epoch (default chr8,chr10)
#     reach        bases on either side of a summit where its site is sought (default 100)
#     rounds       2: train again on the sites that the first model calls (default 1)
#     train        more options of `bertsnr train`, such as "--epochs 10" (default about 1,500 steps)
#     out          output directory (default: the name of the factor)
# A training that was killed goes on from its last epoch; with other settings, delete round1/model.pt.ckpt first.
# The encoder that training starts from has seen sites of 202 human factors, but none on the default chromosomes.

from pathlib import Path


def matrix_name():
    """The name of the matrix, or of its file if that has several."""
    from bertsnr_tools.models.registry import factors_of

    names = factors_of(MATRIX)
    return names[0] if len(names) == 1 else Path(MATRIX).stem


if missing := {"peaks", "fasta", "matrix"} - config.keys():
    raise WorkflowError(f"no {', '.join(sorted(missing))} given; add --config peaks=… fasta=… matrix=…")
PEAKS, FASTA, MATRIX = (str(config[setting]) for setting in ("peaks", "fasta", "matrix"))
ATAC, REACH = config.get("atac", ""), int(config.get("reach", 100))
NAME = str(config.get("name") or matrix_name()).replace("/", "_")
OUT = config.get("out", NAME)
ROUNDS = int(config.get("rounds", 1))
TEST = config.get("test_chroms", "chr6,chr17,chr20,chr22")
VALIDATION = config.get("val_chroms", "chr8,chr10")
TRAIN = config.get("train", "")
BACKGROUND = {"train": 20_000, "test": 2_000}  # background windows; half of those for training are for p-values
PAGE = Path(workflow.basedir) / "peaks_page.py"
MODEL = f"{OUT}/{NAME}.pt"
TESTED = f"awk -F '\\t' -v chroms=,{TEST}, 'index(chroms, \",\" $1 \",\")'"  # lines of the test chromosomes
OTHERS = TESTED.replace("index", "!index")


def model_before(wildcards):
    """The model of the round before; none in round 1."""
    return [] if wildcards.round == "1" else f"{OUT}/round{int(wildcards.round) - 1}/model.pt"


wildcard_constraints:
    round=r"\d+",


rule all:
    input:
        f"{OUT}/summary.html",


rule index:
    input:
        FASTA,
    output:
        f"{FASTA}.fai",
    shell:
        "python -c 'import sys; from bertsnr_tools import Genome; Genome(sys.argv[1])' {input:q}"


rule sites:
    input:
        fasta=FASTA,
        index=f"{FASTA}.fai",
        peaks=PEAKS,
        model=model_before,
    output:
        f"{OUT}/round{{round}}/sites.bed",
    params:
        model=lambda wildcards, input: input.model or MATRIX,
        reach=REACH,
    threads: 2
    shell:
        "bertsnr predict -@ {threads} -m {params.model:q} -f {input.fasta:q} -b {input.peaks:q} --summit {params.reach} --best"
        " | sort -u -k1,1 -k2,2n -k3,3n -k6,6 > {output:q}"
        "; test -s {output:q} || {{ echo 'no peak has a site: choose another matrix' >&2; exit 1; }}"


rule windows:
    input:
        fasta=FASTA,
        sites=f"{OUT}/round{{round}}/sites.bed",
    output:
        f"{OUT}/round{{round}}/train.fa",
    params:
        others=OTHERS,
    shell:
        "{params.others} {input.sites:q} | bertsnr windows -f {input.fasta:q} -o {output:q} -"


rule regions:
    input:
        ATAC or f"{FASTA}.fai",
    output:
        train=f"{OUT}/regions.train.bed",
        test=f"{OUT}/regions.test.bed",
    params:
        columns=lambda wildcards: "{print}" if ATAC else "{print $1, 0, $2}",
        others=OTHERS,
        tested=TESTED,
        chroms=TEST,
    shell:
        "gzip -dcf {input:q} | {params.others} | awk -v OFS='\\t' {params.columns:q} > {output.train:q};"
        " gzip -dcf {input:q} | {params.tested} | awk -v OFS='\\t' {params.columns:q} > {output.test:q};"
        " test -s {output.test:q} || {{ echo 'no region on test_chroms, {params.chroms}: choose others' >&2; exit 1; }}"


rule background:
    input:
        fasta=FASTA,
        peaks=PEAKS,
        sites=f"{OUT}/round1/sites.bed",
        regions=f"{OUT}/regions.{{part}}.bed",
    output:
        f"{OUT}/background.{{part}}.fa",
    params:
        windows=lambda wildcards: BACKGROUND[wildcards.part],
    shell:
        "bertsnr windows --background -c $(({params.windows} / $(wc -l < {input.sites:q}) + 1)) -b {input.regions:q}"
        " --exclude {input.peaks:q} -f {input.fasta:q} -o {output:q} {input.sites:q}"


rule train:
    input:
        windows=f"{OUT}/round{{round}}/train.fa",
        background=f"{OUT}/background.train.fa",
    output:
        f"{OUT}/round{{round}}/model.pt",
    params:
        name=NAME,
        validation=VALIDATION,
        options=TRAIN,
    threads: 2
    shell:
        "bertsnr train -@ {threads} -o {output:q} --name {params.name:q} --background {input.background:q}"
        " --val-chroms {params.validation:q} --background-ratio 2 --epochs $((12000 / $(grep -c '^>' {input.windows:q}) + 1))"
        " --resume {params.options} {input.windows:q}"


rule model:
    input:
        f"{OUT}/round{ROUNDS}/model.pt",
    output:
        MODEL,
    shell:
        "cp {input:q} {output:q}"


rule calls:
    input:
        fasta=FASTA,
        peaks=PEAKS,
        model=MODEL,
    output:
        f"{OUT}/calls.narrowPeak",
    threads: 2
    shell:
        "bertsnr predict -@ {threads} -m {input.model:q} -f {input.fasta:q} -b {input.peaks:q} -o {output:q}"


rule motif:
    input:
        fasta=FASTA,
        calls=f"{OUT}/calls.narrowPeak",
    output:
        motif=f"{OUT}/motif.meme",
        logo=f"{OUT}/motif.png",
        table=f"{OUT}/motif.tsv",
    shell:
        "bertsnr motifs -f {input.fasta:q} -o {output.motif:q} --logo {output.logo:q} --compare jaspar {input.calls:q}"
        " > {output.table:q}"


rule test_windows:
    input:
        fasta=FASTA,
        sites=f"{OUT}/round1/sites.bed",
        background=f"{OUT}/background.test.fa",
    output:
        sites=temp(f"{OUT}/test.fa"),
        shuffles=f"{OUT}/test_and_shuffles.fa",
        background=f"{OUT}/test_and_background.fa",
    params:
        tested=TESTED,
    shell:
        "{params.tested} {input.sites:q} | bertsnr windows -f {input.fasta:q} -o {output.sites:q} -;"
        " bertsnr shuffle {output.sites:q} | cat {output.sites:q} - > {output.shuffles:q};"
        " cat {output.sites:q} {input.background:q} > {output.background:q}"


rule evaluation:
    input:
        model=MODEL,
        windows=[f"{OUT}/test_and_shuffles.fa", f"{OUT}/test_and_background.fa"],
    output:
        table=f"{OUT}/evaluation.tsv",
        curves=f"{OUT}/evaluation.png",
    threads: 2
    shell:
        "bertsnr evaluate -@ {threads} -m {input.model:q} -o {output.table:q} --plot {output.curves:q} {input.windows:q}"


rule summary:
    input:
        peaks=PEAKS,
        sites=f"{OUT}/round1/sites.bed",
        windows=f"{OUT}/round{ROUNDS}/train.fa",
        calls=f"{OUT}/calls.narrowPeak",
        motif=f"{OUT}/motif.tsv",
        logo=f"{OUT}/motif.png",
        evaluation=f"{OUT}/evaluation.tsv",
        curves=f"{OUT}/evaluation.png",
    output:
        f"{OUT}/summary.html",
    params:
        title=f"{NAME}: {Path(PEAKS).name}, {Path(FASTA).name}, {MATRIX}",
        chroms=TEST,
    shell:
        "python {PAGE:q} {params.title:q} {params.chroms:q} {input:q} {output:q}"
