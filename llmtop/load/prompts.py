"""Prompts of a wanted length, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from llmtop.load.spec import LoadSpec

CountTokens = Callable[[str], Awaitable[int | None]]
"""The number of tokens the server makes of a text, or None if it cannot tell."""

# Common words: one token each in most vocabularies when a space goes before.
WORDS: Final = tuple(
    """
    the of and to in is that it was for on are as with his they at be this from have or by one had
    not but what all were when we there can an your which their said if do will each about how up
    out them then she many some so these would other into has more her two like him see time could
    no make than first been its who now people my made over did down only way find use may water
    long little very after words called just where most know get through back much before go good
    new write our used me man too any day same right look think also around another came come work
    three word must because does part even place well such here take why things help put years
    different away again off went old number great tell men say small every found still between
    name should home big give air line set own under read last never us left end along while might
    next sound below saw something thought both few those always show large often together asked
    house world going want school important until form food keep children feet land side without
    boy once animals life enough took sometimes four head above kind began almost live page got
    earth need far hand high year mother light parts country father let night following picture
    being study second eyes soon times story boys since white days ever paper hard near sentence
    better best across during today others however sure means knew try told young miles sun ways
    thing whole hear example heard several change answer room sea against top turned learn point
    city play toward five using himself usually money seen car morning body upon family later turn
    move face door cut done group half red fish plants living black eat short United run book gave
    order open ground cold really table remember tree course front American space inside ago sad
    early learned brought close nothing though idea lived became add become grow draw yet less
    wind behind cannot letter among
    """.split()
)

# A search for words of one token asks at most this many times, then does without the rest.
MAX_COUNTS: Final = 96
MIN_WORDS: Final = 32


class Vocabulary(msgspec.Struct, frozen=True):
    """Words to write prompts with. `tokens_per_word` times words plus `base_tokens` is the length.

    `exact` says that each word is one token of this server; otherwise lengths are approximate, and
    without a tokenizer to ask (`counted` False) a word stands for a token.
    """

    words: tuple[str, ...]
    tokens_per_word: float
    base_tokens: int
    exact: bool
    counted: bool

    def num_words(self, num_tokens: int) -> int:
        return max(1, round((num_tokens - self.base_tokens) / self.tokens_per_word))


async def measure_vocabulary(count: CountTokens) -> Vocabulary:
    """The words that are one token of this server, found by counting halves of the list."""
    words = WORDS
    whole = await count(" ".join(words))
    one = await count(words[0])
    two = await count(f"{words[0]} {words[1]}")
    if whole is None or one is None or two is None:
        return Vocabulary(words, 1.0, 0, exact=False, counted=False)
    base = max(0, 2 * one - two)
    single = await _single_token_words(words, base, count)
    if len(single) >= MIN_WORDS:
        return Vocabulary(single, 1.0, base, exact=True, counted=True)
    return Vocabulary(words, (whole - base) / len(words), base, exact=False, counted=True)


async def _single_token_words(
    words: Sequence[str], base: int, count: CountTokens
) -> tuple[str, ...]:
    found: list[str] = []
    groups = [tuple(words)]
    for _ in range(MAX_COUNTS):
        if not groups:
            break
        group = groups.pop(0)
        num_tokens = await count(" ".join(group))
        if num_tokens is None:
            break
        if num_tokens == base + len(group):
            found += group
        elif 1 < len(group) and num_tokens < base + 2 * len(group):
            groups += [group[: len(group) // 2], group[len(group) // 2 :]]
    return tuple(found)


class Prompt(msgspec.Struct, frozen=True):
    text: str
    max_tokens: int


class PromptWriter:
    """Writes the prompt of a request from its number alone, so that order does not matter."""

    def __init__(self, spec: LoadSpec, vocabulary: Vocabulary) -> None:
        self._spec = spec
        self._vocabulary = vocabulary
        self._prefix = self._words(random.Random(f"{spec.seed}:prefix"), spec.shared_prefix_tokens)

    def _words(self, rng: random.Random, num_tokens: int) -> list[str]:
        if num_tokens == 0:
            return []
        return rng.choices(self._vocabulary.words, k=self._vocabulary.num_words(num_tokens))

    def write(self, number: int, warmup: bool = False) -> Prompt:
        """The prompt of the `number`th request; a warm-up never has a measured request's prompt."""
        rng = random.Random(f"{self._spec.seed}:{'warmup' if warmup else 'request'}:{number}")
        num_tokens = self._spec.prompt_tokens.draw(rng)
        max_tokens = self._spec.output_tokens.draw(rng)
        words = self._words(rng, num_tokens)
        if rng.random() < self._spec.shared_prefix_share:
            # At least the last word is the request's own: the answer is not the cache's alone.
            shared = min(len(self._prefix), len(words) - 1)
            words[:shared] = self._prefix[:shared]
        return Prompt(" ".join(words), max_tokens)
