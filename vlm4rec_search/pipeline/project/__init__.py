"""A shop's own SQLMesh project: written from the template in the package, upgraded, and extended by own models."""

from vlm4rec_search.pipeline.project.new_model import write_model
from vlm4rec_search.pipeline.project.template import MANIFEST, model_names, project_files, write_project
from vlm4rec_search.pipeline.project.upgrade import Change, Outcome, find_old_project, plan_upgrade, upgrade_project

__all__ = [
    "MANIFEST",
    "Change",
    "Outcome",
    "find_old_project",
    "model_names",
    "plan_upgrade",
    "project_files",
    "upgrade_project",
    "write_model",
    "write_project",
]
