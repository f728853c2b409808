"""A small language model, written as a GGUF file: real weights of a real form, and one thing to say."""

from pathlib import Path

import gguf
import numpy as np

__all__ = ["write_llm"]

_SPECIAL = ["<unk>", "<s>", "</s>"]
_TEMPLATE = "{% for message in messages %}{{ message.role }} {{ message.content }}\n{% endfor %}assistant:"
_STRENGTH = 4.0  # so sure that it says the same at any usual temperature
_FORWARD = 32
_HEADS = 4


def write_llm(path: Path, sentence: str) -> str:
    """Writes a model of one layer that says ``sentence``, word by word, and ends; the path as text.

    Each word's vector is a direction of its own, the layer adds nothing, and the output maps each word to the next. The
    prompt ends in a colon, which is followed by the first word.
    """
    words = [f"▁{word}" for word in sentence.split()]
    tokens = [*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), ":", "▁", *words]
    count = len(tokens)
    size = -(-count // 32) * 32
    first = len(_SPECIAL) + 256
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("small")
    writer.add_context_length(8192)
    writer.add_embedding_length(size)
    writer.add_block_count(1)
    writer.add_feed_forward_length(_FORWARD)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(size // _HEADS)
    writer.add_vocab_size(count)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(_SPECIAL) + [-100.0] * 256 + [-1.0] * (count - first))
    kinds = gguf.TokenType
    special = [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL]
    writer.add_token_types([*special, *[kinds.BYTE] * 256, *[kinds.NORMAL] * (count - first)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(_TEMPLATE)
    following = np.zeros((count, size), np.float32)
    said = [first, *range(first + 2, count), 2]
    for word, next_word in zip(said, said[1:], strict=False):
        following[next_word, word] = _STRENGTH
    writer.add_tensor("token_embd.weight", np.eye(count, size, dtype=np.float32))
    writer.add_tensor("output.weight", following)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(size, np.float32))
    for name, shape in (
        *((f"attn_{part}", (size, size)) for part in ("q", "k", "v", "output")),
        ("ffn_gate", (_FORWARD, size)),
        ("ffn_up", (_FORWARD, size)),
        ("ffn_down", (size, _FORWARD)),
    ):
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)
