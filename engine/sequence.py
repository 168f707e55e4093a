"""One request on its way through the scheduler."""

from __future__ import annotations

from engine.kv.cache import BlockTable
from engine.kv.chain import ROOT, PageChain
from engine.request import EngineRequest, TokenLogprobs

# Below it a division overflows before the softmax does; vLLM takes the same for greedy.
MIN_TEMPERATURE = 1e-5


class Sequence:
    """The tokens of a request, how many of them are computed, and what it holds.

    `token_ids` is the prompt and, after it, the output. `num_pending` tokens more are being sampled
    by a step under way. `num_computed` counts what planned steps compute, whether they are done or
    not. `max_tokens` bounds the output and `limit` all tokens. `draws` is false for greedy
    sampling. `key` orders requests, smaller first. While running it has a `table`, a `seat` (its
    row in the runner's tables) and an `admission` number that no other stay on any seat has.
    """

    __slots__ = (
        "admission",
        "cached_tokens",
        "chain",
        "draws",
        "edits_logits",
        "end_ids",
        "first_cached_tokens",
        "has_penalties",
        "key",
        "limit",
        "max_tokens",
        "num_computed",
        "num_pending",
        "num_prompt",
        "number",
        "params",
        "prompt_logprobs",
        "request",
        "seat",
        "seed",
        "t_last_ns",
        "table",
        "token_ids",
    )

    def __init__(
        self,
        request: EngineRequest,
        max_tokens: int,
        seed: int,
        key: tuple[int, int],
        block_size: int,
        root: bytes = ROOT,
    ) -> None:
        params = request.params
        self.request = request
        self.number = request.request
        self.params = params
        self.token_ids = list(request.prompt_token_ids)
        self.num_prompt = len(self.token_ids)
        self.max_tokens = max_tokens
        self.limit = self.num_prompt + max_tokens
        self.seed = seed
        self.key = key
        self.end_ids = frozenset(params.stop_token_ids)
        if not params.ignore_eos:
            self.end_ids |= frozenset(request.eos_token_ids)
        self.draws = params.temperature >= MIN_TEMPERATURE
        self.has_penalties = (
            params.repetition_penalty != 1.0
            or params.presence_penalty != 0.0
            or params.frequency_penalty != 0.0
        )
        self.edits_logits = bool(params.logit_bias or params.min_tokens)
        self.chain = PageChain(self.token_ids, block_size, root)
        self.table: BlockTable | None = None
        self.seat = -1
        self.admission = -1
        self.num_computed = 0
        self.num_pending = 0
        self.cached_tokens = 0
        self.first_cached_tokens: int | None = None
        self.prompt_logprobs: list[TokenLogprobs | None] | None = None
        self.t_last_ns = 0

    @property
    def num_output(self) -> int:
        return len(self.token_ids) - self.num_prompt

    @property
    def num_tokens(self) -> int:
        """Of prompt and output, with those that are being sampled."""
        return len(self.token_ids) + self.num_pending

    @property
    def num_sampled(self) -> int:
        """Tokens of the output before the one whose row was planned last."""
        return self.num_output + self.num_pending - 1

    @property
    def ends_pending(self) -> bool:
        """Whether the token that is being sampled is its last, whatever it is."""
        return self.num_pending > 0 and self.num_tokens >= self.limit

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Whether every token of the prompt must be computed, cached or not, to have its logits.

        They go out with the first token, so a sequence preempted after that wants them no more.
        """
        return self.params.prompt_logprobs is not None and len(self.token_ids) == self.num_prompt

    @property
    def pages(self) -> list[int]:
        """The pages of a running sequence."""
        return self.table.pages if self.table is not None else []

    @property
    def entries(self) -> list[int]:
        """Its pages as attention reads them."""
        return self.table.entries if self.table is not None else []

    @property
    def targets(self) -> list[int] | dict[int, int]:
        """The pages that its tokens are written to, by their place in the table."""
        return self.table.targets if self.table is not None else []

    def append(self, token: int) -> str | None:
        """Takes a sampled token; the reason to finish, if it was the last."""
        if self.max_tokens == 0:
            return "length"
        self.token_ids.append(token)
        if token in self.end_ids and self.num_output > self.params.min_tokens:
            return "stop"
        return "length" if len(self.token_ids) >= self.limit else None
