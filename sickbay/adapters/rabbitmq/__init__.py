"""The broker on RabbitMQ 3.10 to 4.x, over AMQP 0-9-1. Begin with `broker.py`; `topology.py` says which queues there are."""
