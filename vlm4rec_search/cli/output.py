"""What the commands print: JSON for programs, text that cannot harm a terminal."""

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")


def echo_json(value: object) -> None:
    """Print a value as JSON on one line."""
    import json

    click.echo(json.dumps(value, ensure_ascii=False))


def printable(text: str) -> str:
    """Replace control characters, with which a catalogue's text could move the cursor or clear the screen."""
    return "".join(character if character.isprintable() else " " for character in text)
