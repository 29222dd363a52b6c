"""The parser of HTTP with a bound on chunks: thousands of tiny ones would hold everybody up."""

import h11

# Reading a chunk takes some 50 microseconds however short it is, and the event loop waits. A body
# may have this many, and one more for so many bytes: what clients send is far below.
_CHUNKS, _BYTES_PER_CHUNK = 200, 64


class ChunkBound(h11.Connection):
    """The server's end of a connection; a body in too many chunks is no valid one."""

    def __init__(self, max_incomplete_event_size: int) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size)
        self._left = _CHUNKS

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return the next event; raise `h11.RemoteProtocolError` for a chunk too many."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._left = _CHUNKS
        elif isinstance(event, h11.Data):
            self._left += len(event.data) // _BYTES_PER_CHUNK - event.chunk_end
            if self._left < 0:
                raise h11.RemoteProtocolError("The body comes in too many chunks.")
        return event
