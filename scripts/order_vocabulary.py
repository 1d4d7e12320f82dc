"""Puts a vocabulary in the order of everyday frequency: phrases that are named most come first.

A node that embeds a vocabulary for the first time begins with the first phrases. Frequencies are those
of the package wordfreq (https://pypi.org/project/wordfreq), which is needed for this script alone; a
phrase of several words has the frequency that wordfreq estimates from its words, a tenth of it for each
further word: "night light" is much rarer than "night" and "light" are.

    pip install wordfreq
    python scripts/order_vocabulary.py [FILE]
"""

from __future__ import annotations

import sys
from pathlib import Path

from wordfreq import zipf_frequency

EVERYDAY = Path(__file__).parents[1] / "zgs_ros" / "labeling" / "vocabularies" / "everyday.txt"


def order(text: str) -> str:
    """The lines of a vocabulary, its comment first, most frequent phrases next, equals by alphabet."""
    lines = text.splitlines()
    comments = [line for line in lines if line.startswith("#")]
    phrases = [line for line in lines if line.strip() and not line.startswith("#")]
    phrases.sort(key=lambda phrase: (-_frequency(phrase), phrase))
    return "\n".join([*comments, *phrases, ""])


def _frequency(phrase: str) -> float:
    """Decimal logarithm of the frequency, of which only the order matters."""
    return zipf_frequency(phrase, "en") - len(phrase.split()) + 1


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else EVERYDAY
    path.write_text(order(path.read_text("utf-8")), "utf-8")
