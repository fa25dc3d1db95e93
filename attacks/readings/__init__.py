"""Readings of smashed data by name: what is inferred about an input without rebuilding it.

To add one, write a file with a subclass of `Reading` and add it to `READINGS`.
"""

from __future__ import annotations

from attacks.reading import Reading
from attacks.readings.probe import HeadProbe, QueryProbe
from attacks.readings.tail_answers import TailAnswers

READINGS: dict[str, type[Reading]] = {cls.name: cls for cls in (QueryProbe, HeadProbe, TailAnswers)}
