import json
import os

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertModel, BertTokenizer, ModernBertConfig, ModernBertForMaskedLM

from bertsnr_tools.errors import DataError
from bertsnr_tools.models.bertsnr import token_ids
from bertsnr_tools.models.files import load_model, save_model
from bertsnr_tools.models.pretrained import read_pretrained
from bertsnr_tools.sequence.encoding import encode, vocabulary
from bertsnr_tools.sequence.windows import Windows
from bertsnr_tools.training.config import ModelDesign

SEQUENCES = [b"ACGTTGCAAGCTTGACCACTAGAGGGCGCTATTGACCATT", b"TTTTTTTTTTTTAAAAAAAAAAAACCCCCCCCGGGGACGT"]
# fields of DNABERT's configuration that BERT lacks
EXTRA = {
    "num_rnn_layer": 1,
    "rnn": "lstm",
    "rnn_dropout": 0.0,
    "rnn_hidden": 768,
    "split": 10,
    "output_past": True,
    "finetuning_task": None,
    "architectures": ["BertForMaskedLM"],
}


def write_dnabert(directory, k, pooler=True, kind="bin", words=None):
    """A directory as the authors of DNABERT publish it, small and with random weights."""
    directory.mkdir()
    torch.manual_seed(k)
    config = {
        "vocab_size": 5 + 4**k,
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 96,
        "max_position_embeddings": 64,
        "layer_norm_eps": 1e-12,
        "type_vocab_size": 2,
    }
    (directory / "config.json").write_text(json.dumps({**config, **EXTRA}))
    (directory / "vocab.txt").write_text("\n".join(words or vocabulary(k)) + "\n")
    weights = BertForMaskedLM(BertConfig(**config)).state_dict()
    weights = {name: value for name, value in weights.items() if "position_ids" not in name}
    if pooler:
        weights.update({"bert.pooler.dense.weight": torch.randn(48, 48) / 7, "bert.pooler.dense.bias": torch.randn(48)})
    weights["bert.embeddings.position_ids"] = torch.arange(64)[None]
    if kind == "bin":  # old names of layer norms
        weights = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
            for name, value in weights.items()
        }
        torch.save(weights, directory / "pytorch_model.bin")
    else:
        from safetensors.torch import save_file

        save_file(
            {name: value.contiguous().clone() for name, value in weights.items()}, directory / "model.safetensors"
        )
    return directory


def some_windows():
    codes = np.stack([encode(text) for text in SEQUENCES])
    labels = np.zeros_like(codes)
    labels[:, 10:20] = 1
    return Windows(["a", "b"], codes, labels)


@pytest.mark.parametrize("k", [3, 4, 5, 6])
def test_ids_equal_the_tokenizers(tmp_path, k):
    directory = write_dnabert(tmp_path / "d", k)
    tokenizer = BertTokenizer.from_pretrained(directory, do_lower_case=False)
    codes = np.stack([encode(text) for text in SEQUENCES])
    words = [" ".join(text.decode()[i : i + k] for i in range(len(text) - k + 1)) for text in SEQUENCES]
    assert token_ids(codes, k).tolist() == [tokenizer(text)["input_ids"] for text in words]


@pytest.mark.parametrize("kind", ["bin", "safetensors"])
def test_hidden_states_equal_transformers(tmp_path, kind):
    directory = write_dnabert(tmp_path / "d", 4, kind=kind)
    pretrained = read_pretrained(str(directory))
    assert pretrained.k == 4 and "rnn" not in pretrained.config and "cls" not in " ".join(pretrained.weights)
    model = (
        ModelDesign("bertsnr", 4, pretrained)
        .model(ModelDesign("bertsnr", 4, pretrained).info("T", some_windows()))
        .eval()
    )
    other = BertModel.from_pretrained(directory).eval()
    with torch.inference_mode():
        ids = token_ids(some_windows().codes, 4)
        hidden, theirs = model.encoder(ids), other(input_ids=ids)
        assert torch.allclose(hidden, theirs.last_hidden_state, atol=1e-5)
        if kind == "safetensors":
            assert torch.allclose(model.encoder.pooler(hidden), theirs.pooler_output, atol=1e-5)
    # the model file then stands alone
    save_model(str(tmp_path / "t.pt"), model)
    for path in directory.iterdir():
        path.unlink()
    again = load_model(str(tmp_path / "t.pt"))
    with torch.inference_mode():
        assert torch.equal(again(ids)[1], model(ids)[1])


def test_a_vocabulary_in_another_order_is_reordered(tmp_path):
    words = vocabulary(3)
    shuffled = words[:5] + words[5:][::-1]
    directory = write_dnabert(tmp_path / "d", 3, words=shuffled)
    pretrained = read_pretrained(str(directory))
    other = torch.load(directory / "pytorch_model.bin", weights_only=True)["bert.embeddings.word_embeddings.weight"]
    table = pretrained.weights["embeddings.word_embeddings.weight"]
    assert all(torch.equal(table[words.index(word)], other[shuffled.index(word)]) for word in words)


def test_modernbert_directory(tmp_path):
    config = ModernBertConfig(
        vocab_size=69,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        local_attention=16,
        max_position_embeddings=102,
        pad_token_id=0,
        cls_token_id=2,
        sep_token_id=3,
        bos_token_id=2,
        eos_token_id=3,
    )
    torch.manual_seed(0)
    ModernBertForMaskedLM(config).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary(3)))
    pretrained = read_pretrained(str(tmp_path))
    model = (
        ModelDesign("bertsnr", 3, pretrained)
        .model(ModelDesign("bertsnr", 3, pretrained).info("T", some_windows()))
        .eval()
    )
    other = ModernBertForMaskedLM.from_pretrained(tmp_path).eval()
    ids = token_ids(some_windows().codes, 3)
    with torch.inference_mode():
        assert torch.allclose(model.encoder(ids), other.model(input_ids=ids).last_hidden_state, atol=1e-5)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda d: (d / "vocab.txt").unlink(), "vocab.txt: No such file"),
        (lambda d: (d / "vocab.txt").write_text("\n".join(vocabulary(3)[:-1])), "vocab.txt: has 68 tokens"),
        (
            lambda d: (d / "vocab.txt").write_text("\n".join(vocabulary(4))),
            "config.json: vocab_size is 69, vocab.txt has 261 tokens",
        ),
        (lambda d: (d / "config.json").write_text("{"), "config.json: "),
        (
            lambda d: (d / "config.json").write_text('{"model_type": "gpt2"}'),
            "config.json: model_type is 'gpt2', expected bert or modernbert",
        ),
        (lambda d: (d / "pytorch_model.bin").unlink(), "pytorch_model.bin: no weights; expected pytorch_model.bin or"),
        (
            lambda d: (d / "pytorch_model.bin").write_bytes(b"junk"),
            "pytorch_model.bin: is damaged, or contains objects",
        ),
        (
            lambda d: (d / "model.safetensors").write_bytes(b"junk"),
            "model.safetensors: is damaged, or contains objects",
        ),
        (lambda d: torch.save({"x": 1}, d / "pytorch_model.bin"), "pytorch_model.bin: contains objects other"),
        (lambda d: torch.save({"x": torch.ones(1)}, d / "pytorch_model.bin"), "the token embedding has 0 rows"),
        (
            lambda d: change(d, lambda w: w.pop("bert.encoder.layer.1.output.dense.weight")),
            "weights of encoder.layer.1.output.dense.weight are missing",
        ),
        (
            lambda d: change(d, lambda w: w.update({"bert.encoder.layer.1.output.dense.bias": torch.ones(3)})),
            "output.dense.bias have the shape (3,), expected (48,)",
        ),
        (
            lambda d: change(d, lambda w: w["bert.encoder.layer.1.output.dense.bias"].fill_(float("nan"))),
            "weights are not finite",
        ),
    ],
)
def test_bad_directories_are_refused(tmp_path, spoil, problem):
    directory = write_dnabert(tmp_path / "d", 3)
    spoil(directory)
    with pytest.raises(DataError) as error:
        read_pretrained(str(directory))
    assert problem in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(DataError, match="no such directory"):
        read_pretrained(str(tmp_path / "e"))


def change(directory, spoil):
    weights = torch.load(directory / "pytorch_model.bin", weights_only=True)
    spoil(weights)
    torch.save(weights, directory / "pytorch_model.bin")


def test_fine_tuning_from_the_command_line(run_here, tmp_path):
    """The paper's recipe on a trained encoder, k from its vocabulary; without a pooler, one gets random weights."""
    import random

    directory = write_dnabert(tmp_path / "d", 5, pooler=False)
    rng = random.Random(1)
    lines = []
    for i in range(40):
        text = "".join(rng.choices("ACGT", k=40))
        at = rng.randrange(25)
        lines.append(
            f">w{i}::chr1:{i * 1000}-{i * 1000 + 40}(+) site={at}-{at + 9}\n{text[:at]}GATTACAGG{text[at + 9 :]}\n"
        )
    (tmp_path / "pos.fa").write_text("".join(lines))
    outcome = run_here("train", "--encoder", directory, "--json", "r.json", "-o", "T.pt", "pos.fa")
    assert outcome.status == 0, outcome.err
    recipe = json.loads((tmp_path / "r.json").read_text())["recipe"]
    assert (
        recipe["learning_rate"],
        recipe["epochs"],
        recipe["patience"],
        recipe["weight_decay"],
        recipe["ema_decay"],
    ) == (2e-4, 10, 3, 0.01, 0)
    model = load_model(str(tmp_path / "T.pt"))
    assert model.info.k == 5 and model.info.encoder["model_type"] == "bert"
    again = run_here("train", "--encoder", directory, "--json", "r.json", "-o", "U.pt", "--name", "T", "pos.fa")
    assert again.status == 0 and all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), load_model(str(tmp_path / "U.pt")).state_dict().values())
    )
    for options, status, problem in (
        (["-k", 3, "--encoder", directory], 2, "-k 3: the encoder in"),
        (["--arch", "deepsnr", "--encoder", directory], 2, "neither -k nor --encoder"),
        (["--encoder", tmp_path / "nothing"], 1, "no such directory"),
    ):
        bad = run_here("train", *options, "-o", "V.pt", "pos.fa")
        assert bad.status == status and problem in bad.err and not (tmp_path / "V.pt").exists()


def test_the_shipped_encoder_is_read_and_used(run_here, tmp_path):
    """`train` begins with it by default, for windows of any length, and `--encoder new` does not."""
    from bertsnr_tools.models.pretrained import shipped_encoder

    known = shipped_encoder(3)
    assert known.k == 3 and shipped_encoder(6) is None
    (tmp_path / "p.fa").write_text("".join(f">w{i} site=50-60\n{'ACGTTGCA' * 24}{'A' * i:C<8.8}\n" for i in range(9)))
    distance = {}
    for encoder in ("compact", "new"):
        outcome = run_here("train", "--encoder", encoder, "--epochs", 1, "--lr", 1e-6, "-o", "m.pt", "p.fa")
        assert outcome.status == 0, outcome.err
        model = load_model(str(tmp_path / "m.pt"))
        assert model.info.window == 200 and model.info.training["data"]["encoder"] == encoder
        distance[encoder] = max(
            float((model.encoder.state_dict()[name] - value).abs().max()) for name, value in known.weights.items()
        )
    assert distance["compact"] < 1e-3 < distance["new"]


def test_the_shipped_encoder_reads_3_mers_only(caplog):
    with caplog.at_level("INFO"):
        assert ModelDesign.choose(k=3).pretrained and not caplog.text
        assert ModelDesign.choose(k=4).pretrained is None
    assert "no shipped encoder reads 4-mers; training starts from random weights" in caplog.text


def test_the_size_of_a_new_encoder(run_here, tmp_path):
    """In a model, in an encoder directory, and in a model that starts from it; the last layer attends to all tokens."""
    windows = "".join(f">w{i} site=50-60\n{'ACGTTGCA' * 12}{'A' * i:C<8.8}\n" for i in range(9))
    (tmp_path / "p.fa").write_text(windows)
    short = ["--epochs", 1, "-o", "m.pt", "p.fa"]
    assert run_here("train", "-q", "--encoder", "new:64x3", *short).status == 0
    first = load_model(str(tmp_path / "m.pt"))
    assert run_here("pretrain", "-q", "--encoder", "new:64x3", "--steps", 1, "-o", "enc", "p.fa").status == 0
    assert run_here("train", "-q", "--encoder", "enc", *short).status == 0
    for config in (first.encoder.config, load_model(str(tmp_path / "m.pt")).encoder.config):
        assert (config.hidden_size, config.intermediate_size, config.num_attention_heads) == (64, 128, 2)
        assert config.layer_types == ("sliding_attention", "sliding_attention", "full_attention")
    assert run_here("predict", "-q", "-m", "m.pt", "p.fa").status == 0
    for size in ("new:", "new:64", "new:60x2", "new:0x2", "new:64x0", "new:axb"):
        outcome = run_here("train", "-q", "--encoder", size, *short)
        assert outcome.status == 2 and f"--encoder {size}: expected new:UNITSxLAYERS" in outcome.err


def test_byte_order_marks_and_names_that_are_not_utf8(tmp_path):
    directory = write_dnabert(tmp_path / os.fsdecode(b"d\xff"), 3, kind="safetensors")
    expected = read_pretrained(str(directory))
    for name in ("vocab.txt", "config.json"):
        (directory / name).write_bytes(b"\xef\xbb\xbf" + (directory / name).read_bytes())
    assert read_pretrained(str(directory)).digest() == expected.digest()
