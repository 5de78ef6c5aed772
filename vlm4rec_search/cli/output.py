"""What the commands print: JSON for programs, and text that cannot harm a terminal."""

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")


def echo_json(value: object) -> None:
    """Print a value as JSON on one line; dataclasses become objects with their fields."""
    import json

    click.echo(json.dumps(value, ensure_ascii=False, default=_fields))


def printable(text: str) -> str:
    """Replace control characters: those in a catalogue's text could move the cursor or clear the screen."""
    return "".join(character if character.isprintable() else " " for character in text)


def _fields(value: object) -> object:
    from dataclasses import asdict, is_dataclass

    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
