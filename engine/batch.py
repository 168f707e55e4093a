"""What one forward pass works on: a flat axis of tokens, and how it falls apart into sequences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that a batch may hold whose lengths differ each time it is run, as in a graph."""

    num_decode: int  # the sequences with one token are among so many first ones
    num_prefill: int  # sequences with more than one token
    context: int  # tokens of one sequence


@dataclass(frozen=True, slots=True)
class Packing:
    """What a pass over packed pages is told besides.

    Entries of block tables below `num_packed` are packed pages, those from there on wide ones.
    A token is written to a wide page, which `slots` names, and sees its own page there; all pages
    before it through the block table, those too that this pass fills. So what a token sees does
    not depend on how its prompt was cut.
    """

    block_size: int
    num_packed: int
    seals: Tensor | None  # (n, 2) int64, wide and packed page, each filled by this pass


@dataclass(frozen=True, slots=True)
class Batch:
    """T tokens of S sequences, each sequence's tokens side by side, tensors on the model's device.

    A decoding sequence brings one token, a prefilling one its chunk. `context_lens[s]` counts the
    tokens of sequence s whose K and V are in the cache once this pass has written its own, so the
    chunk's first token sees `context_lens[s] - query_lens[s]` earlier ones.
    """

    token_ids: Tensor  # (T,) int64
    positions: Tensor  # (T,) int64
    slots: Tensor  # (T,) int64, page * block_size + offset: where each token's K and V go
    block_tables: Tensor  # (S, P) int32, page ids; beyond a sequence's last page any valid page
    query_starts: Tensor  # (S + 1,) int32, offsets into the token axis
    context_lens_device: Tensor  # (S,) int32
    logit_rows: Tensor  # (R,) int64, the tokens whose logits are wanted
    query_lens: tuple[int, ...]  # the same facts on the host, for planning without a sync
    context_lens: tuple[int, ...]
    bounds: Bounds | None = None  # then the lengths on the host are not known, and are ()
    packing: Packing | None = None

    @property
    def num_tokens(self) -> int:
        return int(self.token_ids.shape[0])

    @property
    def num_sequences(self) -> int:
        return int(self.context_lens_device.shape[0])
