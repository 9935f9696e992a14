"""The stored builds over HTTP, for whoever looks after the index."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from catalog.api_keys import Keyed
from similarity.comparing import Figure, compare
from similarity.publishing import stored_builds


class FigureSerializer(serializers.Serializer[Any]):
    precision = serializers.FloatField(allow_null=True, help_text="Of the first ten neighbours, how many share it.")
    plain = serializers.FloatField(allow_null=True, help_text="The same of the network alone.")


class BuildSerializer(serializers.Serializer[Any]):
    build = serializers.CharField(help_text="Its id.")
    name = serializers.CharField()
    current = serializers.BooleanField(help_text="Whether it answers.")
    former = serializers.BooleanField(help_text="Whether going back leads to it.")
    model = serializers.CharField()
    looks = serializers.IntegerField()
    dimension = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    age_s = serializers.IntegerField()
    size = serializers.IntegerField(help_text="Bytes.")
    figures = serializers.DictField(
        child=FigureSerializer(), help_text="By label, as the build's evaluation report has them; empty without one."
    )


class BuildsView(Keyed):
    """The stored builds of the index, the youngest first, with how good each was found to be."""

    scope = "builds"
    open_to_all = ("OPTIONS",)

    @extend_schema(
        operation_id="builds_list",
        summary="The stored builds of the index",
        tags=["builds"],
        responses={
            200: inline_serializer(
                "Builds",
                {
                    "current": serializers.CharField(allow_null=True, help_text="The id of the build that answers."),
                    "builds": BuildSerializer(many=True),
                },
            )
        },
    )
    def get(self, request: Request) -> Response:
        builds = stored_builds()
        figures = compare(builds).figures
        now = datetime.now(UTC)
        return Response(
            {
                "current": next((build.manifest.id for build in builds if build.current), None),
                "builds": [
                    {
                        **build.to_json(),
                        "age_s": int((now - build.manifest.created_at).total_seconds()),
                        "figures": {
                            label: _to_json(row[at]) for label, row in figures.items() if row[at].precision is not None
                        },
                    }
                    for at, build in enumerate(builds)
                ],
            }
        )


def _to_json(figure: Figure) -> dict[str, float | None]:
    return {"precision": figure.precision, "plain": figure.plain}
