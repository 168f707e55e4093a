"""The hash chain over the full pages of one token sequence."""

from __future__ import annotations

from array import array
from hashlib import blake2b
from typing import NamedTuple

ROOT = b""


class ChainLink(NamedTuple):
    """One full page's content: `block` is its packed token ids, `parent` the digest before it.

    Digests alone decide nothing: a page is taken for another's only if parent and block are equal.
    """

    digest: bytes
    parent: bytes
    block: bytes


class PageChain:
    """Links of a growing sequence, computed once each. Tokens may be added, never changed.

    `root` stands before the first page: there pages differ that hold equal tokens in other ways.
    """

    def __init__(self, token_ids: list[int], block_size: int, root: bytes = ROOT) -> None:
        self._token_ids = token_ids
        self._block_size = block_size
        self._root = root
        self._links: list[ChainLink] = []

    def link(self, index: int) -> ChainLink:
        """The link of page `index`, whose tokens must all be known."""
        while len(self._links) <= index:
            self._links.append(self._next_link())
        return self._links[index]

    def _next_link(self) -> ChainLink:
        start = len(self._links) * self._block_size
        parent = self._links[-1].digest if self._links else self._root
        block = array("i", self._token_ids[start : start + self._block_size]).tobytes()
        return ChainLink(blake2b(parent + block, digest_size=16).digest(), parent, block)
