"""Orders."""

from django.db import models


class Order(models.Model):
    """An order; `invoice` is the number of its invoice, once there is one."""

    name = models.CharField(max_length=100)
    invoice = models.IntegerField(null=True)

    def __str__(self) -> str:
        """For the admin pages."""
        return f"order {self.pk} of {self.name}"
