"""The log of changes, kept by triggers; the words anew, with an index of first letters (both SQLite only); and the
index that the order by title takes, instead of the one that facets took before they were counted in memory."""

from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps
from django.db.models.functions import Lower

from catalog import changes, words


def create(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    run(schema_editor, [*changes.CREATE["sqlite"], *words.DROP["sqlite"], *words.CREATE["sqlite"]])


def drop(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    run(schema_editor, changes.DROP["sqlite"])


def run(schema_editor: BaseDatabaseSchemaEditor, statements: list[str]) -> None:
    if schema_editor.connection.vendor != "sqlite":  # PostgreSQL: migration 0007
        return
    for statement in statements:
        schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [("catalog", "0005_api_keys")]
    operations = [
        migrations.RemoveIndex(model_name="product", name="product_facets"),
        migrations.AddIndex(
            model_name="product", index=models.Index(Lower("title"), models.F("id"), name="product_title")
        ),
        migrations.RunPython(create, drop),
    ]
