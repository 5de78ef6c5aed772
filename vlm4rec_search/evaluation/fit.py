"""The job of `vlm4rec fit`: learn from what shoppers took how texts and photos go together, and keep it.

It fits three times, each time on the interactions up to another moment: the start of the first window of the tuner,
the start of the test part, and the end of the log. Tables as of a moment use the last fit before it, so that nothing is
judged by what it has seen; the release uses the last one. The number of epochs of each fit is chosen on the time before
its moment: a training up to an earlier moment is judged by what shoppers took between the two.
"""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pandas as pd
from safetensors.numpy import save

from vlm4rec_search.common.errors import UsageError
from vlm4rec_search.common.progress import Advance, bar
from vlm4rec_search.common.settings import Settings
from vlm4rec_search.common.version import package_version
from vlm4rec_search.common.warehouse import read
from vlm4rec_search.embeddings.fitted import (
    Fit,
    FittedName,
    FittedSystem,
    Inputs,
    check_folder,
    file_name,
    write_fitted,
)
from vlm4rec_search.evaluation.data import Split
from vlm4rec_search.evaluation.protocol import Protocol, find_moments, find_targets, histories_until, taken_between
from vlm4rec_search.evaluation.snapshots import Workbench, workbench
from vlm4rec_search.evaluation.splits import Say, load_split
from vlm4rec_search.evaluation.systems.learned import LONGEST, Learned, require_torch
from vlm4rec_search.evaluation.tuning.windows import moments_of

EARLIEST = 0.8  # share of what comes before the first fit's moment that its number of epochs is not judged by
KINDS = ("document", "photo")  # of vectors: those of the tables


def fit(settings: Settings, system: FittedName, seed: int, say: Say) -> FittedSystem:
    """Fit a system on the tables of the warehouse, and keep it in the folder of the settings.

    Args:
        settings: of the warehouse, which is only read, and of the folder.
        system: attention or gating.
        seed: of everything random.
        say: told each long step.

    Raises:
        UsageError: no tables yet, no item has a photo vector, torch is not installed, too few interactions, or the
            folder is a file.
        RunError: the warehouse is being written, or a plan fails.
        OSError: the folder cannot be written.
    """
    require_torch()
    check_folder(settings.fitted)
    _read_inputs(settings.warehouse, "prod")  # before minutes of plans
    protocol = Protocol(candidates="all", seed=seed)
    without = settings.model_copy(update={"fitted": settings.cache / "nothing-fitted"})  # whatever was fitted before
    with workbench(without) as bench:
        moments = _moments(bench, protocol)
        say("Building the tables as of earlier moments, to learn from what shoppers took next")
        splits, made_by = _build_splits(bench, protocol, moments)
        fits, numbers = [], {}
        say(f"Fitting {system} {len(moments) - 1} times, each on the interactions up to another moment")
        with bar("epochs", 2 * LONGEST * (len(moments) - 1)) as advance:
            for (earlier, split), inputs in zip(pairwise(splits), made_by[1:], strict=True):
                learned, judged = _fit(bench, system, protocol, earlier, split, advance)
                content = save(learned.numbers())
                numbers[file_name(content)] = content
                fits.append(_describe(split, inputs.text_recipe, learned, judged, file_name(content)))
    vectors = splits[-1].catalogue.vectors
    found = FittedSystem(
        system=system,
        encoder=made_by[-1].encoder,
        image_encoder=made_by[-1].image_encoder,
        text_dimension=vectors["document"].shape[1],
        photo_dimension=vectors["photo"].shape[1],
        dimension=len(learned.numbers()["project_first.bias"]),
        seed=seed,
        package=package_version(),
        fits=tuple(fits),
    )
    write_fitted(settings.fitted, found, numbers)
    return found


def _moments(bench: Workbench, protocol: Protocol) -> list[datetime]:
    """Return the moment by which the first fit's epochs are chosen, and the moments of the fits."""
    starts = moments_of(bench, protocol)
    first, test = starts[0], starts[-1]
    with read(bench.settings.warehouse) as connection:
        _, end = find_moments(connection, (protocol.test, 1.0))
        (earliest,) = find_moments(connection, (EARLIEST,), first)
    return [earliest, first, test, end]


def _build_splits(
    bench: Workbench, protocol: Protocol, moments: Sequence[datetime]
) -> tuple[list[Split], list[Inputs]]:
    """Return the tables as of each moment, and what the vectors of each were made by."""
    names = [f"fit_{number}" for number in range(len(moments))]
    bench.build_moments(dict(zip(names, moments, strict=True)))
    splits, made_by = [], []
    for name in names:
        made_by.append(_read_inputs(bench.settings_of(name).warehouse, name))
        splits.append(load_split(bench.settings_of(name), name, protocol, frozenset({"photo"})))
    return splits, made_by


def _read_inputs(warehouse: Path, environment: str) -> Inputs:
    """Return what the vectors of an environment were made by.

    Raises:
        UsageError: no item has a photo vector.
    """
    with read(warehouse) as connection:
        inputs = Inputs.read(connection, environment)
    if not inputs:
        raise UsageError("no item has a photo with a vector, and a fitted system needs texts and photos")
    return inputs


def _fit(
    bench: Workbench, system: FittedName, protocol: Protocol, earlier: Split, split: Split, advance: Advance
) -> tuple[Learned, int]:
    """Return the system, fitted up to the moment of a split, and how many shoppers its epochs were chosen by."""
    done = 0

    def step(epochs: int) -> None:
        nonlocal done
        done += epochs
        advance(epochs)

    histories = histories_until(bench.settings.require_project())
    with read(bench.settings.warehouse) as connection:
        taken = taken_between(connection, histories, _moment(earlier), _moment(split))
    targets = find_targets(earlier, taken, protocol.history)
    if not len(targets.users):
        raise UsageError(f"too few shoppers took something between {earlier.as_of} and {split.as_of} to learn from")
    learned = Learned(system, *KINDS, system, advance=step)
    learned.fit(earlier, targets)
    learned.fit(split)
    advance(2 * LONGEST - done)  # training stops where it does not get better
    return learned, len(targets.users)


def _moment(split: Split) -> datetime:
    moment: datetime = pd.Timestamp(split.as_of).to_pydatetime()
    return moment


def _describe(split: Split, text_recipe: str, learned: Learned, judged: int, file: str) -> Fit:
    return Fit(
        as_of=_moment(split),
        text_recipe=text_recipe,
        interactions=len(split.items),
        shoppers=split.shape[0],
        judged=judged,
        epochs=learned.epochs or 0,
        ndcg=round(max(learned.judged), 4),
        ndcg_mean=round(learned.judged[0], 4),
        file=file,
    )
