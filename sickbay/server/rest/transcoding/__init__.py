"""REST made of the contract's descriptors (HTTP/JSON transcoding, as google/api/http.proto defines it).

`routes` reads the options of RPCs, `requests` and `bodies` make messages of requests, `render` makes JSON of replies, `documents` makes
JSON Schema of both with the words of `comments`, and `gateway` puts them together. What JSON looks like is in `kinds` (values) and `fields`
(messages); what is documented otherwise is the table in `rest/views.py`.
"""
