import pickle
import zipfile

import numpy as np
import pytest
import torch

from bertsnr_tools.attention import HeadChoice, attention_maps, cls_attention
from bertsnr_tools.errors import DataError, DeviceError
from bertsnr_tools.models.batching import base_probabilities, token_probabilities
from bertsnr_tools.models.bertsnr import BertSNR, token_ids
from bertsnr_tools.models.device import Runtime, choose_device, choose_precision
from bertsnr_tools.models.encoder import compact_config
from bertsnr_tools.models.files import load_model, save_model
from bertsnr_tools.models.interface import ModelInfo
from bertsnr_tools.models.registry import WEIGHTS, find_model, shipped_models
from bertsnr_tools.sequence.encoding import base_means_from_tokens, encode


@pytest.fixture(scope="module")
def codes():
    return np.random.default_rng(2).integers(0, 4, (70, 100)).astype(np.uint8)


def test_token_ids():
    assert token_ids(encode(b"AAATG")[None], 3).tolist() == [[2, 5, 6, 12, 3]]  # [CLS] AAA AAT ATG [SEP]


def test_last_layer_attends_to_the_whole_window(toy_model):
    assert toy_model.encoder.config.layer_types[-1] == "full_attention"


def test_every_base_is_scored_and_depends_on_context(toy_model, codes):
    bases = base_probabilities(toy_model, codes, Runtime(batch_size=16))
    assert bases.shape == (70, 100) and ((bases > 0) & (bases < 1)).all()
    changed = codes.copy()
    changed[:, 50] ^= 1
    assert (base_probabilities(toy_model, changed, Runtime(batch_size=16))[:, 0] != bases[:, 0]).any()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_batch_size_and_threads_change_nothing(toy_model, codes, precision):
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results += [
            token_probabilities(toy_model, codes, Runtime(batch_size=size, precision=precision)) for size in (1, 7, 64)
        ]
    torch.set_num_threads(before)
    for sequences, tokens in results[1:]:
        assert np.array_equal(sequences, results[0][0]) and np.array_equal(tokens, results[0][1])


def test_short_sequences_too(toy_model):
    for length in (3, 4, 5, 10, 16, 31, 60):
        codes = np.random.default_rng(length).integers(0, 4, (64, length)).astype(np.uint8)
        results = [token_probabilities(toy_model, codes, Runtime(batch_size=size))[1] for size in (64, 1, 3, 9, 33)]
        assert all(np.array_equal(tokens, results[0]) for tokens in results)


def test_a_saved_model_is_the_same_model(toy_model, codes, tmp_path):
    path = str(tmp_path / "a.pt")
    save_model(path, toy_model)
    again = load_model(path)
    assert vars(again.info) == vars(toy_model.info)
    assert np.array_equal(
        base_probabilities(again, codes, Runtime(batch_size=64)),
        base_probabilities(toy_model, codes, Runtime(batch_size=64)),
    )
    save_model(str(tmp_path / "b.pt"), again)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


class Payload:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": "other"}, "is not a bertsnr_tools model"),
        ({"format_version": 3}, "has format version 3, this release reads version 1 and 2; update bertsnr_tools"),
        ({"format_version": 0}, "has format version 0, this release reads version 1 and 2; write it again"),
        ({"k": "3"}, "model field 'k' is of type str, expected int"),
        ({"k": 4}, "vocabulary has 69 tokens, expected 261 for 4-mers"),
        ({"threshold": 2.0}, "out of range"),
        ({"k": 8}, "out of range"),
        ({"window": 10**9}, "out of range"),
        ({"weights": {}}, "weights do not match"),
        ({"encoder": {"model_type": "t5", "vocab_size": 69}}, "encoder type is 't5'"),
        ({"encoder": {"model_type": "modernbert", "vocab_size": 69}}, "cannot be used"),
        ({"name": None}, "model field 'name'"),
        ({"name": ""}, "model name '' is empty"),
        ({"name": "A\tB"}, r"model name 'A\\tB' is empty or contains unprintable"),
        ({"name": "A\n"}, r"model name 'A\\n' is empty or contains unprintable"),
        (
            {"encoder": compact_config(3, 100) | {"hidden_size": "128"}},
            "hidden_size is '128', expected a positive integer",
        ),
        ({"encoder": compact_config(3, 100) | {"num_attention_heads": 3}}, "hidden_size is 128, expected a multiple"),
        ({"encoder": compact_config(3, 100) | {"layer_types": ["full_attention"]}}, "layer_types"),
        ({"encoder": compact_config(3, 100) | {"model_type": "bert"}}, "cannot be used"),
        ({"encoder": compact_config(3, 100) | {"num_hidden_layers": 10**9}}, "1000000000 layers"),
        ({"encoder": compact_config(3, 100) | {"hidden_size": 2**40}}, "cannot be used"),
    ],
)
def test_model_files_that_are_refused(toy_model_file, tmp_path, change, problem):
    content = torch.load(toy_model_file, weights_only=True)
    path = tmp_path / "bad.pt"
    torch.save({**content, **change}, path)
    with pytest.raises(DataError, match=f"bad.pt: .*{problem}"):
        load_model(str(path))


def test_a_model_on_a_full_disk_is_an_error_of_its_file(toy_model, tmp_path, file_limit):
    for limit in (10, 2_000, 30_000, 100_000):
        with file_limit(limit), pytest.raises(DataError, match="m.pt: File too large"):
            save_model(str(tmp_path / "m.pt"), toy_model)
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_finite(toy_model_file, tmp_path):
    content = torch.load(toy_model_file, weights_only=True)
    content["weights"]["token_head.bias"][:] = float("nan")
    torch.save(content, tmp_path / "nan.pt")
    with pytest.raises(DataError, match="weights are not finite"):
        load_model(str(tmp_path / "nan.pt"))


def test_files_that_are_not_models(tmp_path, capfd, toy_model_file):
    path = tmp_path / "x.pt"
    whole = toy_model_file.read_bytes()
    torch.save({"format": "bertsnr_tools model", "weights": Payload()}, tmp_path / "code.pt")
    contents = [
        b"",
        b"hello\n",
        b"KPri\x04",
        pickle.dumps({"a": Payload()}),
        whole[: len(whole) // 2],
        (tmp_path / "code.pt").read_bytes(),
    ]
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"x\.pt: is not a bertsnr_tools model"):
            load_model(str(path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(DataError, match="is not a bertsnr_tools model"):
        load_model(str(path))
    with zipfile.ZipFile(toy_model_file) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in source.namelist():
            archive.writestr(name, source.read(name))
    with pytest.raises(DataError, match="its entries are compressed"):
        load_model(str(path))
    assert "code ran" not in capfd.readouterr().out


def test_running_out_of_memory_is_not_damage(toy_model_file, monkeypatch):
    def exhausted(*_, **__):
        raise MemoryError

    monkeypatch.setattr(torch, "load", exhausted)
    with pytest.raises(MemoryError):
        load_model(str(toy_model_file))


def test_a_shipped_name_wins_over_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "CTCF").mkdir()
    (tmp_path / "YY1.pt").write_text("")
    (tmp_path / "MINE").write_text("")
    assert find_model("CTCF") == str(WEIGHTS / "CTCF.pt")
    assert [find_model(name) for name in ("./CTCF", "YY1.pt", "MINE")] == ["./CTCF", "YY1.pt", "MINE"]


def test_names_of_models_and_devices(toy_model_file, tmp_path):
    assert find_model(str(toy_model_file)) == str(toy_model_file)
    assert {"CTCF", "CDX2", "GATA3", "SRF", "YY1"} <= set(shipped_models())
    with pytest.raises(DataError, match="NOTF: no such file, and no shipped model of that name"):
        find_model("NOTF")
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(DeviceError, match="'cuda:99' does not exist"):
        choose_device("cuda:99")
    assert choose_precision("fp32", torch.device("cpu")) == "fp32"
    assert choose_precision("auto", torch.device("cpu")) in ("fp32", "int16", "bf16")


@pytest.mark.parametrize("name", ["CTCF", "CDX2", "GATA3", "SRF", "YY1"])
def test_shipped_models_document_their_training(name):
    path = find_model(name)
    info = load_model(path).info
    assert info.name == name and info.k == 3 and info.window == 100
    assert info.training["validation"]["nucleotide"]["aupr"] > 0.9
    assert info.training["data"]["positives"] > 500
    assert info.training["recipe"]["task_weight"] == 0.15
    assert info.package_version


def bert_model(k=4, seed=2):
    torch.manual_seed(seed)
    encoder = {
        "model_type": "bert",
        "vocab_size": 5 + 4**k,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 128,
    }
    return BertSNR(ModelInfo("B", k, 60, encoder, 8)).eval()


@pytest.mark.parametrize("encoder", ["modernbert", "bert"])
def test_attention_of_cls_is_the_first_row_of_all(encoder, toy_model):
    model = toy_model if encoder == "modernbert" else bert_model()
    codes = np.random.default_rng(1).integers(0, 4, (5, 60)).astype(np.uint8)
    whole = [attention_maps(model, row, Runtime()) for row in codes]
    layers, heads = model.info.encoder["num_hidden_layers"], model.info.encoder["num_attention_heads"]
    tokens = 60 - model.info.k + 3
    assert whole[0].shape == (layers, heads, tokens, tokens) and np.allclose(whole[0].sum(axis=-1), 1, atol=1e-5)
    for layer in range(layers):
        for head in (None, 0, heads - 1):
            first = np.stack([(w[layer].sum(axis=0) if head is None else w[layer, head])[0, 1:-1] for w in whole])
            assert np.allclose(
                cls_attention(model, codes, HeadChoice(layer, head), Runtime(batch_size=2)),
                base_means_from_tokens(first, model.info.k),
                atol=1e-6,
            )
    # attention does not change the scores
    before = token_probabilities(model, codes, Runtime(batch_size=2))
    cls_attention(model, codes, HeadChoice(), Runtime(batch_size=5))
    assert all(
        np.array_equal(one, other)
        for one, other in zip(before, token_probabilities(model, codes, Runtime(batch_size=3)))
    )


def test_bert_equals_transformers(tmp_path):
    """Sequence head on the pooled [CLS], token head on the last hidden states."""
    from transformers import BertConfig, BertModel

    model = bert_model()
    save_model(str(tmp_path / "b.pt"), model)
    model = load_model(str(tmp_path / "b.pt"))
    codes = np.random.default_rng(3).integers(0, 4, (6, 60)).astype(np.uint8)
    ids = token_ids(codes, 4)
    other = BertModel(
        BertConfig(**{key: value for key, value in model.info.encoder.items() if key != "model_type"})
    ).eval()
    other.load_state_dict(
        {
            name.removeprefix("encoder."): value
            for name, value in model.state_dict().items()
            if name.startswith("encoder.")
        }
    )
    with torch.inference_mode():
        output = other(input_ids=ids)
        sequence, tokens = model(ids)
        assert torch.allclose(sequence, model.sequence_head(output.pooler_output)[:, 0], atol=1e-5)
        assert torch.allclose(tokens, model.token_head(output.last_hidden_state)[:, 1:-1, 0], atol=1e-5)
