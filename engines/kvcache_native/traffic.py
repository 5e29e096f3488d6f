"""How long prompts and answers are and how often they continue: fitted to published traces.

The traces are those of Mooncake (FAST '25). Published are count, mean, some quantiles, and the
share of 512-token blocks that an infinite cache would hit. Lengths are drawn from piecewise linear
quantile functions through the published quantiles; the knots between them are chosen so that the
means agree. Which prompts continue a conversation is a model of its own (see prefix.py) of which
`continue_probability`, `conversations_open` and `shared_prefix_tokens` are fitted to the hit share.

                        conversation          synthetic
                        published  fit        published  fit
input tokens  mean      12035      12112      15325      15332
              p50       6909       same       11587      same
              p90       27367      same       38615      same
              p99       85401      same       66458      same
              max       126195     same       191378     same
output tokens mean      343        345        149        150
              p50       350        same       69         same
              p99       1120       same       769        same
hit share of blocks     36.6 %     36.8 %     64.0 %     63.7 %

Chosen, not published: the shortest input, all else between the quantiles, the longest output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from .planning import Words

_HALF = np.uint64(32)
_ONE = 2**32


@dataclass(frozen=True, slots=True)
class Quantiles:
    """A distribution of whole numbers by its quantile function, linear between knots.

    Knots are (quantile in thousandths, value), the first at 0 and the last at 1000.
    """

    knots: tuple[tuple[int, int], ...]

    def draw(self, words: Words) -> NDArray[np.int64]:
        """A number for each word, in integers, so that it is the same on every machine."""
        at = np.array([quantile * _ONE // 1000 for quantile, _ in self.knots])
        values = np.array([value for _, value in self.knots])
        drawn = (words >> _HALF).astype(np.int64)
        left = np.searchsorted(at, drawn, side="right") - 1
        rise, run = np.diff(values), np.diff(at)
        found: NDArray[np.int64] = values[left] + rise[left] * (drawn - at[left]) // run[left]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What a user asks for.

    A request continues one of the user's `conversations_open` conversations with
    `continue_probability`, where one is short enough for its prompt. All prompts of a conversation
    begin with a document of `shared_prefix_tokens`.
    """

    input_tokens: Quantiles
    output_tokens: Quantiles
    continue_probability: float
    conversations_open: int
    shared_prefix_tokens: int


TRAFFIC: Mapping[str, Traffic] = MappingProxyType(
    {
        "conversation": Traffic(
            input_tokens=Quantiles(
                (
                    (0, 900),
                    (250, 3000),
                    (500, 6909),
                    (750, 12000),
                    (900, 27367),
                    (950, 36000),
                    (990, 85401),
                    (1000, 126195),
                )
            ),
            output_tokens=Quantiles(
                ((0, 1), (250, 150), (500, 350), (900, 520), (990, 1120), (1000, 2000))
            ),
            continue_probability=0.70,
            conversations_open=4,
            shared_prefix_tokens=1024,
        ),
        "synthetic": Traffic(
            input_tokens=Quantiles(
                (
                    (0, 1000),
                    (250, 4000),
                    (500, 11587),
                    (750, 16000),
                    (900, 38615),
                    (950, 45000),
                    (990, 66458),
                    (999, 100000),
                    (1000, 191378),
                )
            ),
            output_tokens=Quantiles(
                ((0, 1), (500, 69), (750, 150), (900, 380), (990, 769), (1000, 2000))
            ),
            continue_probability=0.88,
            conversations_open=8,
            shared_prefix_tokens=4096,
        ),
    }
)


def below(words: Words, probability: float) -> NDArray[np.bool_]:
    """True for each word with this probability."""
    return (words >> _HALF).astype(np.int64) < round(probability * _ONE)


class Zipf:
    """Numbers from 0, the nth drawn in proportion to 1 / (n + 1) ** exponent."""

    def __init__(self, count: int, exponent: float) -> None:
        # Rounded to whole numbers: what powers are in their last bits differs between machines.
        weights = [max(1, round(2**20 * (n + 1) ** -exponent)) for n in range(count)]
        self._ends = np.cumsum(np.array(weights, dtype=np.int64))

    def draw(self, words: Words) -> NDArray[np.int64]:
        """A number for each word."""
        total = np.uint64(self._ends[-1])
        drawn = ((words >> _HALF) * total >> _HALF).astype(np.int64)
        return np.searchsorted(self._ends, drawn, side="right")
