"""The stored builds over HTTP, for whoever looks after the index."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.http import Http404
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, inline_serializer
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from catalog.api_keys import Keyed
from similarity import tasks
from similarity.comparing import Figure, compare
from similarity.publishing import stored_builds
from similarity.working import Work


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
    engine = serializers.CharField(help_text="What its looks lie in: faiss, pgvector, …")
    created_at = serializers.DateTimeField()
    age_s = serializers.IntegerField()
    size = serializers.IntegerField(help_text="Bytes.")
    figures = serializers.DictField(
        child=FigureSerializer(), help_text="By label, as the build's evaluation report has them; empty without one."
    )


class ProgressSerializer(serializers.Serializer[Any]):
    stage = serializers.ChoiceField(["embedding", "building", "judging"])
    done = serializers.IntegerField(help_text="Pictures; while embedding.")
    total = serializers.IntegerField()


class TaskSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    name = serializers.ChoiceField(["embed_waiting", "embed_and_build"])
    state = serializers.ChoiceField(
        ["waiting", "running", "done", "failed", "interrupted"],
        help_text="Interrupted: its worker is gone; the next one begins it again.",
    )
    enqueued_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    progress = ProgressSerializer(allow_null=True)
    outcome = serializers.DictField(help_text="What was embedded and built, once it is done.")
    trouble = serializers.CharField(allow_blank=True, help_text="Why it failed, in English.")
    is_anybody_working = serializers.SerializerMethodField(
        help_text="Whether a worker is alive; where none is, tasks wait for one."
    )

    def get_is_anybody_working(self, work: Work) -> bool:
        return tasks.is_anybody_working()


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

    @extend_schema(
        operation_id="builds_create",
        summary="Embed what waits, and build",
        tags=["builds"],
        request=None,
        responses={202: TaskSerializer},
        parameters=[
            OpenApiParameter(
                "Location",
                OpenApiTypes.URI,
                OpenApiParameter.HEADER,
                response=[202],
                description="Where to ask how far it is.",
            )
        ],
    )
    def post(self, request: Request) -> Response:
        """In the background, by a worker, with the model of the settings, else of the build that answers.

        A task that was asked for before and has not begun is the answer again.
        """
        work = tasks.build_soon()
        self.note(request, f"asked for a build ({work.id})")
        where = request.build_absolute_uri(reverse("v1:task", args=[work.id]))
        return Response(TaskSerializer(work).data, status.HTTP_202_ACCEPTED, headers={"Location": where})


class TaskView(Keyed):
    """What became of something that is done in the background."""

    scope = "builds"
    open_to_all = ("OPTIONS",)

    @extend_schema(
        operation_id="tasks_retrieve",
        summary="How far a build is",
        tags=["builds"],
        responses={200: TaskSerializer, 404: None},
    )
    def get(self, request: Request, task_id: UUID) -> Response:
        work = tasks.find(str(task_id))
        if work is None:
            raise Http404
        return Response(TaskSerializer(work).data)


def _to_json(figure: Figure) -> dict[str, float | None]:
    return {"precision": figure.precision, "plain": figure.plain}
