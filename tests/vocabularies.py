"""Tokenizers whose tokens are bytes and runs of bytes, as those of real models are: small, and made on the spot."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

WORDS = ["\n\n", ".\n", ".\n2", ";a", "ab", " ab", "# ", "aa", "\n ", "1;2;3", " = "]
BROKEN = [b"\xe4\xbd", b"\xbd\xa0", b"\x9f\x98", b"a\xf0", b"\xa0a", b"\xa0\xe4\xbd", b"\xef\xbf"]
"""Runs that begin or end inside the bytes of 你 or 😀."""
EOS, MARK = "<eos>", "<step>"


def spelled(run: bytes) -> str:
    """The run as byte-level vocabularies write it: a visible character for each byte."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in kept]
    return "".join(chr(byte) if byte in kept else chr(256 + others.index(byte)) for byte in run)


def byte_level() -> PreTrainedTokenizerFast:
    """All 256 bytes, some words, some broken characters, an eos and a marker that decoding leaves out."""
    runs = [*(bytes([byte]) for byte in range(256)), *(word.encode() for word in WORDS), *BROKEN]
    tokenizer = Tokenizer(models.WordPiece({spelled(run): i for i, run in enumerate(runs)}, unk_token="!"))
    tokenizer.model.continuing_subword_prefix = ""
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return special(tokenizer)


def byte_fallback() -> PreTrainedTokenizerFast:
    """SentencePiece's way: words with their space before them, the rest as bytes, the first space dropped."""
    words = ["▁", "▁ab", "ab", "a", "b", "1", ";", "\n", "▁=", "="]
    runs = [*(f"<0x{byte:02X}>" for byte in range(256)), *words]
    tokenizer = Tokenizer(models.BPE({run: i for i, run in enumerate(runs)}, [], byte_fallback=True))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    return special(tokenizer)


def special(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=EOS, clean_up_tokenization_spaces=False)
    made.add_special_tokens({"additional_special_tokens": [MARK]})
    return made


def tokens(tokenizer: PreTrainedTokenizerFast, *pieces: str | bytes) -> list[int]:
    """The ids of these very pieces: `tokens(made, "ab", b"\\xe4", MARK)`."""
    return [
        tokenizer.convert_tokens_to_ids(piece if piece in (EOS, MARK) else spelled(as_bytes(piece))) for piece in pieces
    ]


def as_bytes(piece: str | bytes) -> bytes:
    return piece.encode() if isinstance(piece, str) else piece
