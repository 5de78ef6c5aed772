"""Which tables a plan rebuilds: those of a changed model, and all below it."""

from sqlmesh.core.model import SqlModel


def rebuild_below_every_change() -> None:
    """Make SQLMesh rebuild the tables below every changed model.

    Of an SQL model that says the same as before in other words (a variable or a macro has changed, its rendered query
    has not), SQLMesh would keep the tables below. It looks at this model alone: tables below it would also miss the
    rows that arrive in the same plan, and the next plan would find no changes.
    """
    SqlModel.is_breaking_change = lambda model, previous: None  # it cannot tell, so the mode of the plan decides
