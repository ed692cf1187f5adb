"""Views that submit jobs, within a transaction and without one, and that show how a job goes."""

import json

from django.db import connection, transaction
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from shop import jobs
from shop.models import Order
from sickbay import outbox
from sickbay.client import NotFound, Unavailable


@csrf_exempt
@require_POST
def create_order(request: HttpRequest) -> JsonResponse:
    """The order and its job, both or neither."""
    with transaction.atomic():
        order = Order.objects.create(name=json.loads(request.body)["name"])
        outbox.submit(connection, "invoice", {"order": order.pk})
    return JsonResponse({"order": order.pk}, status=201)


@require_GET
def show_order(request: HttpRequest, order_id: int) -> JsonResponse:
    """Whether it is invoiced."""
    order = get_object_or_404(Order, pk=order_id)
    return JsonResponse({"order": order.pk, "invoice": order.invoice})


@csrf_exempt
@require_POST
def create_report(request: HttpRequest) -> JsonResponse:
    """A job that belongs to no change in the database is submitted at once."""
    try:
        job = jobs.client().submit("report", json.loads(request.body))
    except Unavailable as error:
        return JsonResponse({"error": str(error)}, status=503)
    return JsonResponse({"job": job.job_id}, status=202)


@require_GET
def show_job(request: HttpRequest, job_id: str) -> JsonResponse:
    """For a page that asks again and again."""
    try:
        job = jobs.client().get(job_id)
    except NotFound:
        return JsonResponse({"error": "no such job"}, status=404)
    return JsonResponse({"state": job.state, "result": job.result})
