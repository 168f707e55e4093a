"""Finding pages that already hold a prefix."""

from __future__ import annotations

from engine.invariants import require
from engine.kv.chain import ChainLink


class PrefixCache:
    """Sealed pages by the content of the whole prefix that they end.

    A hit is verified: equal token ids in the page and an equal, itself verified, chain before it.
    Two prefixes whose digests collide therefore never share a page; the later one is not kept.
    `hit_tokens` of `query_tokens` asked for were found.
    """

    def __init__(self) -> None:
        self.query_tokens = 0
        self.hit_tokens = 0
        self._pages: dict[bytes, tuple[ChainLink, int]] = {}
        self._digests: dict[int, bytes] = {}

    def find(self, link: ChainLink) -> int | None:
        """The page that holds this link's tokens after this link's prefix."""
        found = self._pages.get(link.digest)
        if found is None or found[0] != link:
            return None
        return found[1]

    def insert(self, link: ChainLink, page: int) -> bool:
        """Whether the page is now findable; False if another page holds this prefix already."""
        if link.digest in self._pages:
            return False
        self._pages[link.digest] = (link, page)
        self._digests[page] = link.digest
        return True

    def forget(self, page: int) -> None:
        del self._pages[self._digests.pop(page)]

    def count(self, query_tokens: int, hit_tokens: int) -> None:
        self.query_tokens += query_tokens
        self.hit_tokens += hit_tokens

    def findable(self) -> set[int]:
        """Every page that `find` can give. Raises: InvariantError."""
        pages = {page for _, page in self._pages.values()}
        require(pages == self._digests.keys(), "the prefix cache's two maps disagree")
        require(len(pages) == len(self._pages), "a page is under two prefixes")
        return pages
