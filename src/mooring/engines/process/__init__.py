"""Any engine in a supervised child process: what breaks it does not break the server."""

from mooring.engines.process.engine import ProcessEngine

__all__ = ["ProcessEngine"]
