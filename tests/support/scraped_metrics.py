"""What a scrape of a service would tell."""

from prometheus_client.parser import text_string_to_metric_families as plain


async def numbers(told, name):
    """The samples of one metric, by the values of their labels, in the order of the labels' names."""
    body, _ = await told.text("")
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in plain(body.decode())
        for sample in family.samples
        if sample.name == name
    }
