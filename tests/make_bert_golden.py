"""Makes tests/models/bert_golden: tiny random BERTs of transformers and what PyTorch says of them.

    python tests/make_bert_golden.py        (needs torch, transformers, numpy, safetensors)

The tests read the results where PyTorch is not installed, and `random_model` and `random_batch`
where it is.
"""

from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "models" / "bert_golden"
MODELS = ("BertModel", "BertForMaskedLM", "BertForPreTraining")
SIZES = {
    "vocab_size": 24,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 10,
}


def random_model(name: str, seed: int, **sizes):
    """Returns a model of transformers with every parameter random, biases and norms included."""
    import torch
    import transformers

    torch.manual_seed(seed)
    model = getattr(transformers, name)(transformers.BertConfig(**(SIZES | sizes))).eval()
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            parameter.normal_(0, 0.3)
            if path.endswith("LayerNorm.weight"):
                parameter.add_(1)
    return model


def random_batch(seed: int, vocab_size: int, num_types: int) -> dict[str, np.ndarray]:
    """Returns tokens, token_types and segments (1, and 0 on padding), int32 [3, 7]."""
    rng = np.random.default_rng(seed)
    lengths = np.array([7, 4, 1])
    return {
        "tokens": rng.integers(0, vocab_size, (3, 7), np.int32),
        "token_types": rng.integers(0, num_types, (3, 7), np.int32),
        "segments": (np.arange(7) < lengths[:, None]).astype(np.int32),
    }


def expected_outputs(model, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns what the model gives: those of hidden, pooled, masked_token, next_sentence it has."""
    import torch

    with torch.no_grad():
        out = model(
            input_ids=torch.from_numpy(batch["tokens"]).long(),
            token_type_ids=torch.from_numpy(batch["token_types"]).long(),
            attention_mask=torch.from_numpy(batch["segments"]).long(),
            output_hidden_states=True,
        )
    named = {
        "hidden": out.hidden_states[-1],
        "pooled": out.get("pooler_output"),
        "masked_token": out.get("logits", out.get("prediction_logits")),
        "next_sentence": out.get("seq_relationship_logits"),
    }
    return {name: value.numpy() for name, value in named.items() if value is not None}


def main() -> None:
    """Writes one folder per model, as transformers writes it, with expected.npz in it."""
    for seed, name in enumerate(MODELS):
        model, batch = random_model(name, seed), random_batch(seed, SIZES["vocab_size"], 2)
        model.save_pretrained(FOLDER / name)
        np.savez_compressed(
            FOLDER / name / "expected.npz", **batch, **expected_outputs(model, batch)
        )


if __name__ == "__main__":
    main()
