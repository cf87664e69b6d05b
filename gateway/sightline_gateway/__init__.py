"""Sightline's gateway: the kernel over HTTP, WebSocket and server-sent events. The only place that knows HTTP."""
