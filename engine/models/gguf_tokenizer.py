"""The tokenizer.json that a GGUF file's metadata amounts to. No torch."""

from __future__ import annotations

from typing import Any, Final

from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as HubTokenizer
from tokenizers.models import BPE

from engine.errors import ModelError
from engine.models.gguf_file import HINT, GgufFile

# GGUF token types that are no piece of a text: unknown, control, user-defined, unused.
UNKNOWN, CONTROL, USER_DEFINED = 2, 3, 4
SPACE: Final = "\u2581"
_REST: Final = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
# How a text falls apart before byte-pair merging: each name as llama.cpp writes it, and the
# pattern that the model's own tokenizer.json has.
SPLITS: Final = {
    "qwen2": _WORDS + r"\p{N}" + _REST,
    "llama-bpe": _WORDS + r"\p{N}{1,3}" + _REST,
}
GPT2_NAMES: Final = ("default", "gpt-2")


def build_tokenizer(file: GgufFile) -> HubTokenizer:
    """Raises: ModelError for a kind of tokenizer that this engine does not know."""
    kind = file.metadata.get("tokenizer.ggml.model")
    tokens = file.metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not tokens:
        raise ModelError(f"{file.path} holds no vocabulary", "Take a file with its tokenizer.")
    builders = {"gpt2": _byte_level, "llama": _sentencepiece}
    if kind not in builders:
        raise _unknown(file, f"tokenizer {kind!r}")
    try:
        tokenizer = builders[kind](file, tokens)
    except ModelError:
        raise
    except Exception as error:  # tokenizers raises bare Exception
        reason = (str(error).splitlines() or ["no reason given"])[0]
        raise ModelError(f"{file.path}: its tokenizer is damaged: {reason}", HINT) from error
    tokenizer.add_tokens(_added(file, tokens))
    _add_bos(file, tokens, tokenizer, by_default=kind == "llama")
    return tokenizer


def _unknown(file: GgufFile, what: str) -> ModelError:
    return ModelError(
        f"{file.path}: {what} is not known",
        "Use the model's safetensors folder, which brings its tokenizer.json.",
    )


def _byte_level(file: GgufFile, tokens: list[str]) -> HubTokenizer:
    merges = [tuple(m.split(" ", 1)) for m in file.metadata.get("tokenizer.ggml.merges", [])]
    if any(len(merge) != 2 for merge in merges):
        raise _unknown(file, "a merge that is no pair")
    pre = str(file.metadata.get("tokenizer.ggml.pre", "default"))
    model = BPE(_vocabulary(tokens), merges, ignore_merges=pre == "llama-bpe")
    tokenizer = HubTokenizer(model)
    tokenizer.pre_tokenizer = _pre_tokenizer(file, pre)
    tokenizer.decoder = decoders.ByteLevel()
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def _pre_tokenizer(file: GgufFile, pre: str) -> Any:
    by_regex = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if pre in GPT2_NAMES:
        return by_regex
    if pre == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        return pre_tokenizers.Sequence([digits, by_regex])
    if pre not in SPLITS:
        raise _unknown(file, f"pre-tokenizer {pre!r}")
    split = pre_tokenizers.Split(Regex(SPLITS[pre]), behavior="isolated")
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([split, bytes_only])


def _sentencepiece(file: GgufFile, tokens: list[str]) -> HubTokenizer:
    scores = file.metadata.get("tokenizer.ggml.scores", [])
    if len(scores) != len(tokens):
        raise _unknown(file, "a vocabulary without scores")
    unknown = int(file.metadata.get("tokenizer.ggml.unknown_token_id", 0))
    vocabulary = _vocabulary(tokens)
    tokenizer = HubTokenizer(
        BPE(
            vocabulary,
            merges_of_scores(vocabulary, scores),
            unk_token=tokens[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    spaces = normalizers.Replace(" ", SPACE)
    prefixed = file.metadata.get("tokenizer.ggml.add_space_prefix", True)
    tokenizer.normalizer = (
        normalizers.Sequence([normalizers.Prepend(SPACE), spaces]) if prefixed else spaces
    )
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(
        [*steps, decoders.Strip(" ", 1, 0)] if prefixed else steps
    )
    return tokenizer


def merges_of_scores(vocabulary: dict[str, int], scores: list[float]) -> list[tuple[str, str]]:
    """The merges that make byte-pair encoding pick as SentencePiece does: best result first."""
    merges = [
        (-scores[token_id], vocabulary[piece[:cut]], vocabulary[piece[cut:]], piece, cut)
        for piece, token_id in vocabulary.items()
        for cut in range(1, len(piece))
        if piece[:cut] in vocabulary and piece[cut:] in vocabulary
    ]
    return [(piece[:cut], piece[cut:]) for *_, piece, cut in sorted(merges)]


def _vocabulary(tokens: list[str]) -> dict[str, int]:
    return {token: token_id for token_id, token in enumerate(tokens)}


def _added(file: GgufFile, tokens: list[str]) -> list[AddedToken]:
    """Tokens that are found in a text as a whole; control tokens are special too."""
    types = file.metadata.get("tokenizer.ggml.token_type") or []
    kinds = dict(zip(tokens, types, strict=False))
    return [
        AddedToken(token, special=kind != USER_DEFINED, normalized=False)
        for token, kind in kinds.items()
        if kind in (UNKNOWN, CONTROL, USER_DEFINED) and token
    ]


def _add_bos(
    file: GgufFile, tokens: list[str], tokenizer: HubTokenizer, *, by_default: bool
) -> None:
    """Makes encoding start with the begin token where the file asks for it."""
    bos_id = file.metadata.get("tokenizer.ggml.bos_token_id")
    pre = file.metadata.get("tokenizer.ggml.pre")
    wanted = file.metadata.get("tokenizer.ggml.add_bos_token", by_default or pre == "llama-bpe")
    if bos_id is None or not wanted or not 0 <= bos_id < len(tokens):
        return
    bos = tokens[bos_id]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, bos_id)]
    )
