"""Routes."""

from django.urls import path

from shop import views

urlpatterns = [
    path("orders", views.create_order),
    path("orders/<int:order_id>", views.show_order),
    path("reports", views.create_report),
    path("jobs/<str:job_id>", views.show_job),
]
