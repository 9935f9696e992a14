"""The log of changes and the index of words on PostgreSQL, as 0003 and 0006 make them on SQLite."""

from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps

from catalog import changes, words

VENDOR = "postgresql"


def create(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    run(schema_editor, [*changes.CREATE[VENDOR], *words.CREATE[VENDOR]])


def drop(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    run(schema_editor, [*changes.DROP[VENDOR], *words.DROP[VENDOR]])


def run(schema_editor: BaseDatabaseSchemaEditor, statements: list[str]) -> None:
    if schema_editor.connection.vendor == VENDOR:
        for statement in statements:
            schema_editor.execute(statement, params=None)


class Migration(migrations.Migration):
    dependencies = [("catalog", "0006_changes")]
    operations = [migrations.RunPython(create, drop)]
