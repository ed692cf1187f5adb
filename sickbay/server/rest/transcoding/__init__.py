"""REST generated from the contract's descriptors (HTTP/JSON transcoding, as defined in google/api/http.proto).

`routes` reads the options of RPCs, `requests` and `bodies` convert requests to messages, `render` converts replies to JSON, `documents`
creates JSON Schema of both with descriptions from `comments`, and `gateway` combines them. `kinds` (values) and `fields` (messages) define
the JSON format; the table in `rest/views.py` has the exceptions.
"""
