"""Names the live comparisons in which a service lets nobody take part, since a release of theirs is gone."""

from collections.abc import Mapping

from vlm4rec_search.indexes.releases import Releases
from vlm4rec_search.search.experiments import Experiment


def find_lost_experiments(experiments: Mapping[str, Experiment], releases: Releases) -> list[str]:
    """Return a line for each experiment that has nothing to compare, with the reason.

    Raises:
        UsageError, RunError: the index does not answer.
    """
    live = releases.live() if any(each.releases for each in experiments.values()) else None
    if live is None:
        return []
    names = [name for name, listed in releases.list().items() if not listed.problem]
    found = {name: each.obstacle(live, names) for name, each in experiments.items()}
    return [f"{name} ({obstacle})" for name, obstacle in found.items() if obstacle]
