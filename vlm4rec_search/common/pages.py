"""HTML pages of one file each, from Jinja2 templates: everything is escaped, and nothing is loaded from elsewhere."""

from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from vlm4rec_search.common.paths import replacing_file


def write_page(path: Path, package: str, template: str, **values: object) -> None:
    """Render a template and write the page in one step.

    Args:
        path: of the page; its folder is created where it is missing.
        package: whose folder `templates` has the template; it extends `base.html` of `vlm4rec_search.common`.
        template: name of its file.
        values: for the template.

    Raises:
        OSError: the page cannot be written.
    """
    page = page_templates(package).get_template(template).render(**values)
    with replacing_file(path) as part:
        part.write_text(page, encoding="utf-8")


def page_templates(package: str) -> Environment:
    """Return the templates of a package and those that all pages share; a missing value is an error."""
    loaders = [PackageLoader(package), PackageLoader("vlm4rec_search.common")]
    environment = Environment(
        loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = _number
    return environment


def _number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}f}"
