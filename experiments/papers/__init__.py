"""Publications whose figures are measured again, by name.

To add one, write a file with a subclass of `Paper` and add it to `PAPERS`.
"""

from __future__ import annotations

from experiments.papers.abuadbba2020 import Abuadbba2020
from experiments.papers.fredrikson2015 import Fredrikson2015
from experiments.papers.fredrikson2015_faces import Fredrikson2015Faces
from experiments.papers.he2019 import He2019
from experiments.papers.he2020 import He2020
from experiments.papers.paper import Paper, PaperError
from experiments.papers.shredder2020 import Shredder2020
from experiments.papers.titcombe2021 import Titcombe2021
from experiments.papers.yang2020 import Yang2020
from experiments.papers.zhang2020 import Zhang2020

PAPERS: dict[str, type[Paper]] = {
    cls.name: cls
    for cls in (
        Abuadbba2020,
        Fredrikson2015,
        Fredrikson2015Faces,
        He2019,
        He2020,
        Shredder2020,
        Titcombe2021,
        Yang2020,
        Zhang2020,
    )
}


def make_paper(name: str) -> Paper:
    """A paper by its registry name.

    Raises:
        PaperError: an unknown name.
    """
    if name not in PAPERS:
        raise PaperError(f"unknown paper {name!r}; use one of: {', '.join(PAPERS)}")
    return PAPERS[name]()
