"""Which steps count as like another: the nearest in time among those near in size."""

import random
from statistics import median

from profiler.explain.usual import LIKES, Likes


def nearest(steps: list[int], step: int) -> list[int]:
    others = sorted((s for s in steps if s != step), key=lambda s: abs(s - step))
    return others[:LIKES]


def test_the_nearest_in_time_are_found_among_many_and_among_few() -> None:
    rng = random.Random(1)
    for _ in range(300):
        steps = sorted(rng.sample(range(200), rng.randrange(1, 120)))
        likes = Likes()
        for step in steps:
            likes.add(8, step, float(step))
        asked = rng.choice([*steps, -5, 77, 300])
        expected = nearest(steps, asked)
        assert likes.middle(8, asked) == (median(expected) if expected else None)


def test_the_middle_is_that_of_the_usual() -> None:
    likes = Likes()
    for step in range(60):
        likes.add(8 + step % 3, step, float(step * step % 17))
    usual = likes.usual(9, 40)
    assert usual is not None and likes.middle(9, 40) == usual.middle
    assert likes.middle(100, 40) is likes.usual(100, 40) is None
