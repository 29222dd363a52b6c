"""What the server says of itself at `/openapi.json`: every route, field and error."""

from mooring.http.openapi.document import openapi_document

__all__ = ["openapi_document"]
